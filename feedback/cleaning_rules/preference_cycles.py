"""Rule that breaks preference cycles among the answers to one prompt."""

from __future__ import annotations

from collections import defaultdict

import networkx

from feedback.cleaning_rules.base import CleaningRule, CleaningState, PairVotes
from feedback.labels import normalize


class PreferenceCycles(CleaningRule):
    """Drops the closest decision of every cycle (A over B, B over C, C over A), until none is left.

    A reward model cannot represent a cycle: it assigns one score to each answer.
    """

    name = "preference_cycles"

    def apply(self, state: CleaningState) -> None:
        """Drop one pair of every cycle, and record the cycles."""
        by_prompt: dict[str, list[PairVotes]] = defaultdict(list)
        for pair in state.pairs():
            by_prompt[normalize(pair.judged[0].prompt)].append(pair)
        for pairs in by_prompt.values():
            graph = networkx.DiGraph()
            for pair in pairs:
                graph.add_edge(*pair.order, pair=pair)
            while cycles := _strongly_connected(graph):
                for cycle in cycles:
                    edges = list(graph.subgraph(cycle).edges(data="pair"))
                    winner, loser, pair = min(edges, key=lambda edge: (edge[2].margin, edge[:2]))
                    state.result.cycles.append(sorted(cycle))
                    state.drop_pair(self, pair, "is part of a preference cycle")
                    graph.remove_edge(winner, loser)


def _strongly_connected(graph: networkx.DiGraph) -> list[set[str]]:
    """Return the sets of answers that are connected by cycles."""
    return [c for c in networkx.strongly_connected_components(graph) if len(c) > 1]
