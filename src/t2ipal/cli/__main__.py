"""``python -m t2ipal.cli``, where the script ``t2ipal`` is not on the path."""

import sys

from t2ipal.cli import main

sys.exit(main())
