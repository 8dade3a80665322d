"""The equivalent label in another policy, by the mapping table of a SPIF.

The rules (ADatP-4774.1 section 3.6):
  - exactly one equivalent classification for the target that applies in the direction asked for;
  - every category value has an equivalent that applies, or an explicit discard; one without is Refused;
  - then the categories are added that the classification's mapping, the equivalent policy and the label's tag
    sets demand;
  - the source label is never changed, and the result is valid under the target or there is none.

Hardened: a discard of a RESTRICTIVE or PERMISSIVE value is refused, because the target would then permit
readers that the source denies; so is what two PERMISSIVE tag sets map into one, because the target would then
permit with one value what the source permits with two; of a demanded permissive choice the table must name the one
value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from .compiled import compile_label
from .errors import Refused
from .label import Category, Label, TagType, fold
from .policy import Key, Policy, expand_group
from .policy_elements import EquivalentPolicy, Requirement, Value, ValueEquivalence


class Direction(StrEnum):
    """Who maps: the originator before sending, or the recipient before opening."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"


Chosen = dict[Key, set[str]]


def translate(label: Label, source_policy: Policy, target_policy: Policy, direction: Direction) -> Label:
    """The label in `target_policy` that the table of `source_policy` gives. Raises Refused without one."""
    problems = compile_label(source_policy, label).findings
    if problems:
        raise Refused(f"the label is not valid: {problems[0].why}", rules=("label-valid",))
    link = _link(source_policy, target_policy)
    rank = source_policy.classification(label.classification)
    found = [
        each
        for each in (rank.equivalences if rank is not None else ())
        if fold(each.policy) == fold(link.name) and each.applied in {direction, "both"}
    ]
    arrivals = [each for each in target_policy.classifications if found and each.lacv == found[0].lacv]
    if len(found) != 1 or len(arrivals) != 1:
        raise _refused(label, target_policy, f"{label.classification} has {len(found)} equivalents")
    chosen: Chosen = {}
    for category in label.categories:
        mapped: Chosen = {}
        for _name, values in source_policy.chosen(category):
            _map_name(values, category, link, target_policy, direction, mapped)
        if any(key in chosen and key[1] is TagType.PERMISSIVE for key in mapped):
            raise _refused(label, target_policy, f"with {category.tag_name} beside another it would widen release")
        for key, lacvs in mapped.items():
            chosen.setdefault(key, set()).update(lacvs)
    demands = (*found[0].required, *link.required, *_of_tag_sets(label, source_policy, link))
    _add_required(demands, target_policy, chosen)
    result = Label(
        policy=target_policy.ref,
        classification=arrivals[0].name,
        categories=_categories(target_policy, chosen),
        originator=label.originator,
        created=label.created,
        review=label.review,
    )
    invalid = compile_label(target_policy, result).findings
    if invalid:
        raise _refused(label, target_policy, invalid[0].why)
    return result


def _refused(label: Label, target: Policy, why: str) -> Refused:
    return Refused(
        f"{label.policy.name} {label.classification} has no equivalent in {target.name}: {why}",
        hint="the mapping authority has to complete the table",
        rules=("equivalence",),
    )


def _link(source: Policy, target: Policy) -> EquivalentPolicy:
    for each in source.equivalents:
        if each.oid == target.oid and fold(each.name) == fold(target.name):
            return each
    raise Refused(f"{source.name} has no equivalence with {target.name}", rules=("equivalence",))


def _map_name(
    values: tuple[Value, ...],
    category: Category,
    link: EquivalentPolicy,
    target: Policy,
    direction: Direction,
    chosen: Chosen,
) -> None:
    """Add the equivalents of all `values`, which the source policy gives one name, to `chosen`."""
    name = f"{category.tag_name} {values[0].name}"
    equals: dict[ValueEquivalence, None] = {}
    for value in values:
        found = [
            each
            for each in value.equivalences
            if fold(each.policy) == fold(link.name) and each.applied in {direction, "both"}
        ]
        if not found:
            raise Refused(f"{name} has no equivalent in {target.name}", rules=("equivalence",))
        equals |= dict.fromkeys(found)
    for each in equals:
        if each.discard:
            if category.type is not TagType.INFORMATIVE:
                raise Refused(f"{name} would be lost in {target.name}", rules=("equivalence",))
            continue
        if each.type is not category.type:
            raise Refused(f"{name} would change its type in {target.name}", rules=("equivalence",))
        if len(equals) > 1 and category.type is TagType.PERMISSIVE:
            raise Refused(f"{name} has several equivalents in {target.name}", rules=("equivalence",))
        chosen.setdefault((each.tag_set_oid, each.type), set()).add(each.lacv)


def _of_tag_sets(label: Label, source: Policy, link: EquivalentPolicy) -> Iterator[Requirement]:
    for category in label.categories:
        for each in source.index.by_oid[category.tag_set_oid].equivalences:
            if fold(each.policy) == fold(link.name):
                yield from each.required


def _add_required(requirements: Iterable[Requirement], target: Policy, chosen: Chosen) -> None:
    oids = {fold(each.name): each.oid for each in target.tag_sets}
    for requirement in requirements:
        expanded = [expand_group(target, group) for group in requirement.groups]
        rows = [(oids.get(name, ""), kind, lacv) for name, kind, lacv in frozenset().union(*expanded)]
        if not all(expanded):
            raise Refused(f"the table names what {target.name} does not have", rules=("equivalence",))
        present = [row for row in rows if row[2] in chosen.get((row[0], row[1]), set())]
        if requirement.operation != "all" and present:
            continue
        permissive = any(kind is TagType.PERMISSIVE for _, kind, _ in rows)
        if requirement.operation != "all" and len(rows) > 1 and (permissive or requirement.operation == "onlyOne"):
            raise Refused(f"the table leaves a choice in {target.name}", rules=("equivalence",))
        for oid, kind, lacv in rows:
            if kind is TagType.PERMISSIVE and (oid, kind) in chosen and lacv not in chosen[oid, kind]:
                raise Refused(f"the table would widen release in {target.name}", rules=("equivalence",))
        fresh: Chosen = {}
        for oid, kind, lacv in rows:
            fresh.setdefault((oid, kind), set()).add(lacv)
        for key, lacvs in fresh.items():
            chosen.setdefault(key, set()).update(lacvs)


def _categories(target: Policy, chosen: Chosen) -> tuple[Category, ...]:
    categories = []
    for key, lacvs in chosen.items():
        tag_set = target.index.by_oid.get(key[0])
        known = {value.lacv: value.name for tag in target.index.tags.get(key, ()) for value in tag.values}
        if tag_set is None or lacvs - known.keys():
            raise Refused(f"the table names what {target.name} does not have", rules=("equivalence",))
        names = tuple(known[lacv] for lacv in lacvs)
        categories.append(Category(tag_set.name, tag_set.oid, key[1], names))
    return tuple(categories)
