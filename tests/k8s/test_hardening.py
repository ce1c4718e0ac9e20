"""The hardening checks pass on every overlay, and each of them notices what it is there to notice."""

import pytest

from hardening import CHECKS
from manifests import OVERLAYS
from mutations import MUTATIONS
from subject import subject


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("number", CHECKS)
def test_holds(number, overlay):
    assert CHECKS[number](subject(overlay)) == []


def test_every_check_has_a_mutation():
    assert set(MUTATIONS) == set(CHECKS)
    assert all(MUTATIONS.values())


@pytest.mark.parametrize("number,mutate", [
    pytest.param(number, mutate, id=f"{number}-{place}")
    for number, mutations in MUTATIONS.items() for place, mutate in enumerate(mutations)
])
def test_a_mutation_is_caught(number, mutate):
    s = subject("eks")
    mutate(s)
    assert CHECKS[number](s)


def test_a_development_image_needs_a_tag():
    """Check 19 in an overlay whose images have no digest."""
    s = subject("local")
    s.pod["spec"]["containers"][0]["image"] = "workspace-base:latest"
    assert CHECKS[19](s)
