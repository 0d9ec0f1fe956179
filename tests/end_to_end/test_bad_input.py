"""Whatever comes over the socket: a clear refusal, nothing changed, and the daemon lives."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
import trio

from tests.support.daemon import digests, stored
from tests.support.qemu_host import Host, running_host
from tests.support.rpc import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.rpc import Rpc

UUID: Final = "6695eb01-f6a4-8304-79aa-97f2502e193f"
MIB: Final = 1024 * 1024


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with (
        tempfile.TemporaryDirectory(prefix="vs-") as folder,  # short, for the socket
        running_host(Path(folder), drivers=("test",)) as host,
    ):
        trio.run(_prepare, host)
        yield host


async def _prepare(host: Host) -> None:
    async with connected(host.socket) as rpc:
        for name in ("s1", "s2", "s3"):
            await rpc.take(name)


@pytest.fixture
async def rpc(host: Host) -> AsyncIterator[Rpc]:
    """Connect; fail unless the daemon is the same and has the same afterwards."""
    said = len(host.log.read_text())
    async with connected(host.socket) as watcher:
        before, stored_before, seq = await watcher.picture(), digests(host.state), stored(host.state).seq
        async with connected(host.socket) as client:
            yield client
        assert await watcher.call("connection.ping") == {}
        assert await watcher.picture() == before
    assert digests(host.state) == stored_before
    assert stored(host.state).seq == seq, "something was announced"
    assert "Traceback" not in host.log.read_text()[said:]
    assert host._process is not None
    assert host._process.poll() is None


def snapshot(inner: str) -> str:
    return f"<domainsnapshot>{inner}</domainsnapshot>"


def named(name: str) -> str:
    return snapshot(f"<name>{name}</name>")


def domain(name: str, inner: str = "") -> str:
    return f"<domain type='test'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os>{inner}</domain>"


# --- frames ---


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello", -32700),
        (b"{", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"connection.ping"', -32700),
        (b"\xff\xfe{}", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":{"x":"\\ud800"}}', -32700),
        (b"\0", -32700),
        (b"GET / HTTP/1.1\r", -32700),
        (b"[" * 100_000, -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":' + b"[" * 100_000, -32700),
        (b"1" * 10_000, -32600),
        (b"null", -32600),
        (b"[]", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"connection.ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"connection.ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"connection.ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":7}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"connection.ping","params":[]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"snapshot.destroy_all"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"__init__"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"domain.info","params":{"domain":["test"]}}', -32602),
    ],
    ids=lambda value: repr(value)[:48],
)
async def test_a_frame_that_makes_no_sense_is_answered(rpc: Rpc, line: bytes, code: int) -> None:
    await rpc.send(line + b"\n")
    answer = await rpc.frame()
    assert answer["error"]["code"] == code
    assert await rpc.call("connection.ping") == {}


async def test_a_frame_without_an_end_is_not_kept_for_ever(rpc: Rpc) -> None:
    chunk = b"x" * MIB
    with trio.fail_after(30):
        try:
            for _ in range(80):
                await rpc.stream.send_all(chunk)
        except trio.BrokenResourceError:
            pass  # it has closed while we still wrote
    assert (await rpc.frame())["error"]["code"] == -32001


async def test_a_conversation_that_breaks_off_is_no_concern(rpc: Rpc, host: Host) -> None:
    for data in (b"", b"{", b'{"jsonrpc":"2.0","id":1,"method":"snapshot.create","params":{"domain":"te'):
        async with connected(host.socket) as other:
            await other.send(data)


# --- parameters ---


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        ({}, {"$.domain", "$.xml"}),
        ({"domain": "test"}, {"$.xml"}),
        ({"domain": [], "xml": 2}, {"$.domain", "$.xml"}),
        ({"domain": -1, "xml": ""}, {"$.domain"}),
        ({"domain": None, "xml": None}, {"$.domain", "$.xml"}),
        ({"domain": "", "xml": ""}, {"$.domain"}),
        ({"domain": "d" * 1025, "xml": ""}, {"$.domain"}),
        ({"domain": "test", "xml": "", "flags": "redefine"}, {"$.flags"}),
        ({"domain": "test", "xml": "", "flags": ["REDEFINE", 1]}, {"$.flags[0]", "$.flags[1]"}),
        ({"domain": "test", "xml": "", "flags": 1}, {"$.flags"}),
        ({"domain": "test", "xml": "", "uri": "no uri"}, {"$.uri"}),
        ({"domain": "test", "xml": "", "force": True, "Xml": ""}, {"$.force", "$.Xml"}),
    ],
    ids=lambda value: repr(value if isinstance(value, dict) else sorted(value))[:60],
)
async def test_wrong_parameters_are_all_named(rpc: Rpc, params: dict[str, Any], paths: set[str]) -> None:
    error = await rpc.refusal("snapshot.create", **params)
    assert error.code == -32602
    assert {problem.path for problem in error.problems} == paths


@pytest.mark.parametrize(
    "uri", ["xen:///", "test:///other", "qemu:///system", "test://host/default", "a://" + "x" * 1000]
)
async def test_a_uri_that_nobody_serves_is_refused(rpc: Rpc, uri: str) -> None:
    assert (await rpc.refusal("domain.list", uri=uri)).kind == "no-support"


@pytest.mark.parametrize(
    "ref", ["../test", "test\0", "\n", "1 OR 1=1", "'; DROP TABLE domains; --", "-1", "9" * 1000]
)
async def test_a_strange_reference_finds_nothing(rpc: Rpc, ref: str) -> None:
    assert (await rpc.refusal("domain.info", domain=ref)).code == 42
    if len(ref) <= 255:
        assert (await rpc.refusal("snapshot.get", domain="test", snapshot=ref)).code == 72


# --- documents ---

BILLION: Final = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))

DOCUMENTS: Final = {
    "billion laughs": f'<!DOCTYPE d [<!ENTITY l0 "lol">{BILLION}]>' + named("&l9;"),
    "quadratic": f'<!DOCTYPE d [<!ENTITY a "{"a" * 50_000}">]>' + named("&a;" * 1000),
    "external entity": '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + named("&x;"),
    "external dtd": '<!DOCTYPE d SYSTEM "http://127.0.0.1:9/x.dtd">' + named("a"),
    "parameter entity": '<!DOCTYPE d [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>' + named("a"),
    "entity nobody declared": named("&nobody;"),
    "not closed": "<domainsnapshot><name>a",
    "two roots": named("a") * 2,
    "text": "certainly no XML",
    "empty": "",
    "json": '{"name": "a"}',
    "deep": snapshot("<a>" * 100_000 + "</a>" * 100_000),
    "many": snapshot("<a/>" * 300_000),
    "nul": named("a\0b"),
    "nul reference": named("a&#0;b"),
    "control character": named("a\x07b"),
    "huge name": named("n" * 100_000),
    "other root": "<domain/>",
    "huge document": snapshot(f"<description>{'d' * 16 * MIB}</description>"),
}


@pytest.mark.parametrize("flags", [[], ["redefine"]], ids=["create", "redefine"])
@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_hostile_document_is_refused(rpc: Rpc, name: str, flags: list[str]) -> None:
    error = await rpc.refusal("snapshot.create", domain="test", xml=DOCUMENTS[name], flags=flags)
    assert error.code in {27, 35, -32602}, error
    text = msgspec.json.encode(error.to_wire())
    assert b"root:" not in text
    assert len(text) < 100_000


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "other root"])
@pytest.mark.parametrize("method", ["domain.define", "domain.create"])
async def test_a_hostile_definition_is_refused(rpc: Rpc, method: str, name: str) -> None:
    xml = DOCUMENTS[name].replace("domainsnapshot", "domain")
    assert (await rpc.refusal(method, xml=xml)).code in {1, 27, 35, -32602}


@pytest.mark.parametrize(
    "name", ["a/b", "../../etc/passwd", "..", ".", "a\nb", "a&#1;b", "a\x1fb", "a&#127;b", "", "n" * 100_000]
)
async def test_a_domain_s_name_that_no_file_could_have_is_refused(rpc: Rpc, name: str) -> None:
    error = await rpc.refusal("domain.define", xml=domain(name))
    assert error.code in {27, 35}, error


@pytest.mark.parametrize(
    "xml",
    [
        domain("web", "<uuid>not a uuid</uuid>"),
        domain("web").replace("1024", "-1"),
        domain("web").replace("1024", "9" * 5000),
        domain("web", "<vcpu>0</vcpu>"),
        domain("web", "<vcpu>x</vcpu>"),
        domain("web").replace("type='test'", ""),
        domain("web").replace("<memory>1024</memory>", ""),
        domain("web").replace("hvm", "uml?"),
    ],
)
async def test_a_definition_that_makes_no_sense_is_refused(rpc: Rpc, xml: str) -> None:
    assert (await rpc.refusal("domain.define", xml=xml)).code in {1, 8, 27, 35, 67}


def record(
    *,
    name: str = "r",
    created: str = "1",
    state: str = "shutoff",
    inner: str = "",
    embedded: str | None = None,
) -> str:
    body = domain("test", f"<uuid>{UUID}</uuid>") if embedded is None else embedded
    return snapshot(
        f"<name>{name}</name><creationTime>{created}</creationTime><state>{state}</state>{inner}{body}"
    )


@pytest.mark.parametrize(
    "xml",
    [
        record(created="tomorrow"),
        record(created="9" * 5000),
        record(created=""),
        record(state="nostate"),
        record(state="RUNNING"),
        record(embedded=""),
        record(embedded=domain("test", "<uuid>11111111-2222-3333-4444-555555555555</uuid>")),
        record(inner="<parent><name>nobody</name></parent>"),
        record(inner="<parent><name>r</name></parent>"),
        record(name="s1", inner="<parent><name>s3</name></parent>", state="running"),
        record(inner="<memory snapshot='internal'/>"),
        record(inner="<disks><disk name='../../x'/></disks>"),
        record(inner="<disks><disk name='vda' snapshot='external'><source file='relative'/></disk></disks>"),
        record(name="n" * 256),
    ],
)
async def test_a_record_that_makes_no_sense_is_refused(rpc: Rpc, xml: str) -> None:
    error = await rpc.refusal("snapshot.create", domain="test", xml=xml, flags=["redefine", "current"])
    assert error.code in {1, 8, 27, 35, 67}, error


@pytest.mark.parametrize("name", ["a\nb", "tab\tname", "\x7f"])
@pytest.mark.parametrize("flags", [[], ["redefine"]])
async def test_control_characters_in_names_of_snapshots_are_refused(
    rpc: Rpc, name: str, flags: list[str]
) -> None:
    xml = record(name=name) if flags else named(name)
    error = await rpc.refusal("snapshot.create", domain="test", xml=xml, flags=flags)
    assert (error.code, "control characters" in str(error)) == (35, True)


async def test_strange_names_of_snapshots_are_names_and_nothing_else(rpc: Rpc) -> None:
    """libvirt's test driver takes them too; no file is called after a snapshot here."""
    strange = [
        "../../../tmp/x",
        "a/b",
        ".hidden",
        "..",
        "'; DROP TABLE snapshots; --",
        "näme ☃",
        "-rf",
        "%s%n",
    ]
    for name in strange:
        xml = named(name.replace("&", "&amp;").replace("<", "&lt;"))
        made = await rpc.call("snapshot.create", domain="test", xml=xml, flags=["no-metadata"])
        assert made["snapshot"]["name"] == name
        assert (await rpc.refusal("snapshot.get", domain="test", snapshot=name)).code == 72
