"""Labels between people and the protocol: markings and files in, markings out, bodies into portions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.protocol.aggregate import Nobody, dominates, effective_label, join
from relay.protocol.banner import format_marking, marking_color
from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.header import Core
from relay.protocol.label import Label, readable_label
from relay.protocol.label_xml import read_label_xml
from relay.protocol.marking import portion_mark
from relay.protocol.marking_reader import parse_marking
from relay.protocol.policy import Policy

from .documents import Documents
from .marks import paragraphs
from .render import SYSTEM_HIGH
from .trust import Trust


@dataclass(slots=True)
class LabelReader:
    """Reads and writes labels under the policies that the own office has published."""

    documents: Documents
    trust: Trust
    office: str

    def policies(self) -> list[Policy]:
        """Those that this office has published, one at least. Raises Malformed."""
        found = list(self.documents.policies_of(self.trust.directory, self.office))
        if not found:
            raise Malformed(
                "your office has published no security policy",
                hint="liaison authority policy publish SPIF.xml",
            )
        return found

    def read(self, text: str) -> Label:
        """A label from a marking, or from a 4774 XML file if `text` names one. Raises Malformed."""
        if text.endswith(".xml") and Path(text).is_file():
            return self._only(self.policies(), lambda p: read_label_xml(Path(text).read_bytes(), p), text)
        now = int(time.time())
        return self._only(self.policies(), lambda policy: parse_marking(policy, text, now), text)

    @staticmethod
    def _only(policies: list[Policy], read: Callable[[Policy], Label], text: str) -> Label:
        found, problems = [], []
        for policy in policies:
            try:
                found.append(read(policy))
            except LiaisonError as problem:
                problems.append(problem)
        if len(found) == 1:
            return found[0]
        if found:
            names = " and ".join(sorted(label.policy.name for label in found))
            raise Malformed(f"label {text!r} is valid under {names}", hint="write the policy's name first")
        closest = max(problems, key=lambda problem: len(problem.hint))
        raise Malformed(f"label {text!r}: {closest}", hint=closest.hint)

    @staticmethod
    def label_of(encoded: bytes) -> Label | None:
        """The label in its encoding, or None if it is none."""
        return readable_label(encoded)

    def policy_for(self, label: Label) -> Policy | None:
        """Our own copy of a label's policy, if it is the file that the label pins, or newer."""
        own = self.documents.policy_of(self.trust.directory, self.office, label.policy)
        if own is None or (own.version <= label.policy.version and own.digest != label.policy.digest):
            return None
        return own

    def policy_shown(self, label: Label) -> Policy | None:
        """The policy to show a label by: our own, or a trusted partner's copy of the very file that the label pins.

        A reader who reads by an equivalent label sees the originator's marking first all the same.
        """
        if (own := self.policy_for(label)) is not None:
            return own
        for office in sorted(set(self.trust.directory.trusted_kids(self.trust.own_kid).values())):
            found = self.documents.policy_of(self.trust.directory, office, label.policy)
            if found is not None and found.digest == label.policy.digest:
                return found
        return None

    def marking(self, label: Label | None) -> str:
        """The marking that stands first and last wherever content is shown; system-high where there is none.

        Of a label with a successor it is the one in force now.
        """
        policy = self.policy_shown(label) if label is not None else None
        if label is None or policy is None:
            return SYSTEM_HIGH
        try:
            return format_marking(policy, effective_label(label, int(time.time())))
        except LiaisonError:
            return SYSTEM_HIGH

    def heading(self, core: Core) -> Label | None:
        """The label that a page with this message on it bears now: its own, or the join if a portion's is higher.

        None, which is system-high, where one of them is not known here or they exclude each other.
        """
        now = int(time.time())
        labels = [self.label_of(each) for each in dict.fromkeys((core.label, *(each.label for each in core.portions)))]
        known = [effective_label(label, now) for label in labels if label is not None]
        policy = self.policy_shown(known[0]) if len(known) == len(labels) else None
        if policy is None:
            return None
        try:
            if all(dominates(policy, known[0], each) for each in known):
                return known[0]
            joined = join(policy, known)
        except LiaisonError:
            return None
        return None if isinstance(joined, Nobody) else joined

    def highest(self, labels: Iterable[Label | None]) -> str:
        """The marking over all of these, policy by policy; system-high where one is not known here or they exclude."""
        members: dict[str, tuple[Policy, list[Label]]] = {}
        now = int(time.time())
        for label in labels:
            policy = self.policy_shown(label) if label is not None else None
            if label is None or policy is None:
                return SYSTEM_HIGH
            members.setdefault(policy.oid, (policy, []))[1].append(effective_label(label, now))
        try:
            joined = [join(policy, each) for policy, each in members.values()]
        except LiaisonError:
            return SYSTEM_HIGH
        markings = {self.marking(None if isinstance(each, Nobody) else each) for each in joined}
        return SYSTEM_HIGH if SYSTEM_HIGH in markings else " / ".join(sorted(markings)) or SYSTEM_HIGH

    def withholds_silently(self, label: Label) -> bool:
        """Whether the policy says that a withheld portion is not even mentioned."""
        policy = self.policy_shown(label)
        return policy is not None and policy.extensions.withhold == "silent"

    def color(self, label: Label) -> str | None:
        policy = self.policy_shown(label)
        return marking_color(policy, effective_label(label, int(time.time()))) if policy is not None else None

    def portion_mark(self, label: Label) -> str:
        policy = self.policy_shown(label)
        return portion_mark(policy, effective_label(label, int(time.time()))) if policy is not None else SYSTEM_HIGH

    def paragraphs(self, body: str, banner: Label) -> Iterator[tuple[Label, str]]:
        """The body cut at its portion marks, each piece under its label. Raises Malformed for what may be a mark."""
        policy = self.policy_for(banner)
        return iter([(banner, body)]) if policy is None else paragraphs(policy, body, banner, int(time.time()))
