"""``python -m t2ipal``, where the script ``t2ipal`` is not on the path."""

import sys

from t2ipal.cli import main

if __name__ == "__main__":
    sys.exit(main())
