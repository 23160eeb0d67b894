"""Labels of any kind where classes are drawn and averaged."""

import pytest
import torch
from random_features import LABELS, normal

from diml_nb.learning.sampling import sample_balanced_batch, split_classes
from diml_nb.related import (
    cosegmentation as coseg,
    label_autoencoder as keywords,
)


def test_siblings_take_labels_of_numpy_too():
    labels = LABELS.numpy()
    assert torch.equal(coseg.pairs_within(labels), coseg.pairs_within(LABELS))
    assert torch.equal(coseg.pairs_across(labels), coseg.pairs_across(LABELS))
    assert torch.equal(
        keywords.class_means(normal(6, 5), labels), keywords.class_means(normal(6, 5), LABELS)
    )
    assert torch.equal(split_classes(labels, 0.7)[0], split_classes(LABELS, 0.7)[0])


def test_a_class_that_is_too_small_is_named():
    said = (
        "per_class: expected at most 1, the size of the smallest class, got 2; of the classes"
        " number 1 has 1"
    )
    with pytest.raises(ValueError, match=said):
        sample_balanced_batch([torch.tensor([0, 1]), torch.tensor([7])], 4, 2, seed=0)
