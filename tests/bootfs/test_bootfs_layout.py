"""The layouts have the sizes of the BSD headers, and both readings of them agree."""

import subprocess
import sys

import construct
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootfs import layout
from bootfs.layout_format import record

ORDERS = ("little", "big")
VARIANTS = ("4.3", "4.4", "ufs2")
ALL = {
    **{f"superblock {o} {v}": layout.superblock(o, v) for o in ORDERS for v in VARIANTS},
    **{f"cg {o} {v}": layout.cylinder_group(o, v) for o in ORDERS for v in VARIANTS},
    **{f"direct {o} {v}": layout.directory_header(o, v) for o in ORDERS for v in VARIANTS},
    **{f"dinode {o} {v}": layout.dinode(o, v) for o in ORDERS for v in ("4.4", "ufs2")},
    **{f"csum {o}": layout.csum(o) for o in ORDERS},
    **{f"csum_total {o}": layout.csum_total(o) for o in ORDERS},
    **{f"sun_masks {o}": layout.sun_masks(o) for o in ORDERS},
    **{f"netbsd_inodes {o}": layout.netbsd_inodes(o) for o in ORDERS},
    **{f"extattr {o}": layout.extattr_header(o) for o in ORDERS},
}


def flat(container: construct.Container, prefix: str = "") -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in container.items():
        if name == "_io":
            continue
        if isinstance(value, construct.Container):
            values |= flat(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = tuple(value) if isinstance(value, list) else value
    return values


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None)
@given(data=st.data())
def test_the_derived_format_reads_and_writes_as_the_construct_does(name: str, data: st.DataObject) -> None:
    definition = ALL[name]
    fast = record(definition)
    assert fast.size == definition.sizeof()
    seed = data.draw(st.binary(min_size=16, max_size=16))
    raw = (seed * (fast.size // 16 + 1))[: fast.size]
    parsed = definition.parse(raw)
    values = fast.unpack(raw)
    assert values == flat(parsed)
    assert fast.pack(values) == raw == definition.build(parsed)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pointer_array_reads_as_construct_does(order: layout.ByteOrder, variant: layout.Variant) -> None:
    definition = layout.pointer(order, variant)
    raw = bytes(range(16 * definition.sizeof()))
    fast = record(definition).array(16)
    assert list(fast.unpack(raw)) == list(construct.Array(16, definition).parse(raw))


@pytest.mark.parametrize(
    ("definition", "size", "places"),
    [
        (
            layout.superblock("little", "4.3"),
            1380,
            {"fs_csaddr": 152, "fs_fsmnt": 212, "fs_cpc": 856, "fs_magic": 1372},
        ),
        (
            layout.superblock("little", "4.4"),
            1380,
            {
                "fs_maxsymlinklen": 1320,
                "fs_inodefmt": 1324,
                "fs_maxfilesize": 1328,
                "fs_postblformat": 1356,
                "fs_magic": 1372,
            },
        ),
        (layout.cylinder_group("little", "4.3"), 984, {"cg_btot": 84, "cg_b": 212, "cg_iused": 724, "cg_magic": 980}),
        (layout.cylinder_group("little", "4.4"), 168, {"cg_magic": 4, "cg_btotoff": 84, "cg_nclusterblks": 112}),
        (
            layout.superblock("big", "ufs2"),
            1380,
            {
                "fs_old_csaddr": 152,
                "fs_swuid": 712,
                "fs_maxbsize": 860,
                "fs_sblockloc": 1000,
                "fs_cstotal.cs_ndir": 1008,
                "fs_time": 1072,
                "fs_csaddr": 1096,
                "fs_snapinum": 1116,
                "fs_mtime": 1208,
                "fs_ckhash": 1304,
                "fs_flags": 1312,
                "fs_maxsymlinklen": 1320,
                "fs_magic": 1372,
            },
        ),
        (layout.cylinder_group("big", "ufs2"), 168, {"cg_iusedoff": 92, "cg_initediblk": 120, "cg_time": 136}),
        (
            layout.dinode("big", "ufs2"),
            256,
            {"di_size": 16, "di_birthtime": 56, "di_extsize": 92, "di_db": 112, "di_ib": 208, "di_ckhash": 244},
        ),
        (layout.dinode("little"), 128, {"di_size": 8, "di_db": 40, "di_ib": 88, "di_flags": 100, "di_uid": 112}),
        (layout.directory_header("little", "4.3"), 8, {"d_namlen": 6}),
        (layout.directory_header("little", "4.4"), 8, {"d_type": 6, "d_namlen": 7}),
        (layout.csum("little"), 16, {"cs_nffree": 12}),
    ],
)
def test_fields_are_where_the_bsd_headers_have_them(definition: object, size: int, places: dict[str, int]) -> None:
    fast = record(definition)
    assert fast.size == size
    assert {name: fast.offset_of(name) for name in places} == places


def test_a_field_that_is_not_there_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(KeyError, match="cs_nbfre"):
        record(layout.csum("big")).pack({"cs_nbfre": 1})
    with pytest.raises(KeyError):
        record(layout.csum("big")).offset_of("cs_nbfre")


def test_what_has_no_fixed_format_is_refused() -> None:
    with pytest.raises(TypeError):
        record(construct.GreedyRange(construct.Int8ub))
    with pytest.raises(TypeError):
        record(construct.Struct("a" / construct.Int16ub, "b" / construct.Int16ul))


def test_no_field_is_named_as_a_method_of_a_dict() -> None:
    for definition in ALL.values():
        assert not {field.name for field in record(definition).fields} & set(dir(dict))


def test_importing_bootfs_its_device_and_its_command_leaves_construct_alone() -> None:
    script = "import sys, bootfs, bootfs.device, bootfs.errors, bootfs.command; sys.exit('construct' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_selection_reads_the_same_integers_as_the_whole_structure() -> None:
    for order in ("little", "big"):
        whole = record(layout.dinode(order, "ufs2"))
        data = bytes(range(256))
        values = whole.unpack(data)
        names = ("di_mode", "di_size", "di_mtime", "di_gen", "di_ckhash")
        part = whole.selection(names)
        assert part.size == whole.size
        assert part.unpack(data) == tuple(values[name] for name in names)
