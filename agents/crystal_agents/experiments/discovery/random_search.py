"""Random search without replacement."""

from crystal_agents.experiments.discovery.task import Search


def random_search(search: Search) -> None:
    """Evaluate the allowed crystals in a random order."""
    for crystal in search.draw(search.oracle.budget):
        if search.oracle.finished:
            return
        search.oracle.evaluate(crystal[None])
