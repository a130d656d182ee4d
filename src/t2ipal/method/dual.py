"""DualCoOp: a positive and a negative prompt for each class, evidence for it weighed against none.

Sun et al., "DualCoOp: Fast Adaptation to Multi-Label Recognition with Limited Annotations",
NeurIPS 2022 (arXiv 2206.09541), section 3, with what its code adds: the softmax over regions is
that of the positive prompt for both, at T = 20, and the pooled cosines are multiplied by 100.

    h+ = L T+^T, h- = L T-^T                        [B, P, C]
    A  = softmax over P of h+ / t_s                 [B, P, C]
    s+ = 100 sum_P A h+,  s- = 100 sum_P A h-       [B, C]
    p  = exp(s+) / (exp(s+) + exp(s-))              [B, C]
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from t2ipal.method.equations import local_score, similarity
from t2ipal.method.head import Scores, T2IPALHead
from t2ipal.method.head_config import PromptKind
from t2ipal.method.items import check_features
from t2ipal.method.prompts import ClassEmbeddings
from t2ipal.method.train_config import ItemKind


class DualCoOpHead(T2IPALHead):
    """DualCoOp on cached features; local features alone count.

    Its pair of prompts is T2I-PAL's pair in another role: ``local`` is the positive prompt T+,
    which the heatmap comes from there as here, and ``global_`` the negative one T-. On disk they
    are called by what they are here. There are neither prototypes nor adapter, and no settings of
    fusion apply.
    """

    joint: ClassVar[bool] = True

    def scores(
        self,
        global_: Tensor,
        local: Tensor,
        mask: Tensor | None = None,
        kind: ItemKind = "image",
        classes: ClassEmbeddings | None = None,
    ) -> Scores:
        """Score unit features [B, D] and [B, P, D]; arguments as in :meth:`T2IPALHead.scores`.

        Returns:
            ``fused`` = s+ - s-, the log-odds of p: it ranks as p does, and p of many images is 1
            to the last bit. ``local`` = s+ and ``global_`` = -s-, which add up to it.

        Raises:
            ValueError: shapes disagree or features are not normalised.
        """
        classes = self.class_embeddings() if classes is None else classes
        check_features(global_, local, mask, classes.global_.shape[1])
        L, h, A = self._look(local, mask, kind, classes)  # h+ [B, P, C]
        present = self.config.logit_scale * local_score(A, h)  # s+ [B, C]
        against = similarity(L, classes.global_)  # h- [B, P, C]
        absent = self.config.logit_scale * local_score(A, against)  # s- [B, C]
        return Scores(present - absent, -absent, present, None, None, A)


HEADS: dict[PromptKind, type[T2IPALHead]] = {
    "learned": T2IPALHead,
    "fixed": T2IPALHead,
    "dual": DualCoOpHead,
}
"""The head for each kind of prompts."""
