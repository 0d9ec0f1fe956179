"""A domain's definition: the facts that this daemon decides on, and the whole document as it was given."""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final
from uuid import UUID

from lxml import etree

from virtsnap_protocol.errors import ConfigUnsupported, InternalError, InvalidArgument, XmlDetail, XmlError
from virtsnapd.models.disk import Disk, parse_disks, words
from virtsnapd.models.document import Element, format_document, parse_document
from virtsnapd.models.grammar import check_grammar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Disk", "DomainDefinition", "canonical_uuid", "check_domain_name", "parse_scaled"]

KIB: Final = 1024
MAX_NAME: Final = 255
"""Bytes of UTF-8 that a domain's name may have; libvirt finds out when it writes a file of that name."""

_TYPES: Final = words("qemu kqemu kvm xen lxc uml openvz test vmware hyperv vbox phyp parallels bhyve vz hvf")
"""virDomainVirtType."""
_OS_TYPES: Final = frozenset({"hvm", "xen", "linux", "exe", "uml", "xenpvh"})
_ARCHITECTURES: Final = words(
    "alpha armv6l armv7l armv7b aarch64 cris i686 ia64 lm32 loongarch64 m68k microblaze microblazeel "
    "mips mipsel mips64 mips64el openrisc parisc parisc64 ppc ppc64 ppc64le ppcemb riscv32 riscv64 "
    "s390 s390x sh4 sh4eb sparc sparc64 unicore32 x86_64 xtensa xtensaeb"
)
"""virArch."""
_SCALES: Final = "kmgtpe"
_NUMBER = re.compile(r"\s*\+?([0-9]{1,20})")  # as many digits as 64 bits can have
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class DomainDefinition:
    """One domain's document; two are equal when their texts are."""

    name: str
    uuid: str
    """Canonical lower-case text."""
    type: str
    os_type: str
    arch: str | None
    machine: str | None
    max_memory: int
    """Bytes: <memory>, or the sum of the NUMA cells."""
    memory: int
    """Bytes: <currentMemory>, at most `max_memory`."""
    vcpus: int
    disks: tuple[Disk, ...]
    text: str = field(repr=False)
    """The document with its secrets, as it is stored."""
    element: Element = field(repr=False, compare=False)
    """The whole document. Never change it: copy it and go through `with_element`."""

    @classmethod
    def parse(
        cls, text: str, *, new_uuid: Callable[[], str] | None = None, validate: bool = False
    ) -> DomainDefinition:
        """Read a <domain> document from a stranger.

        A missing <uuid> is filled in with what `new_uuid` returns. With `validate` the document must also
        follow the grammar, which is checked before its content (virXMLParseHelper).

        Raises: XmlDetail, XmlError, XmlInvalidSchema, ConfigUnsupported, InternalError, InvalidArgument.
        """
        root = parse_document(text, "domain_definition")
        if root.tag != "domain":
            raise XmlError(f"expecting root element of 'domain', not '{root.tag}'")
        if validate:
            check_grammar(root)
        return cls._read(root, new_uuid)

    @classmethod
    def from_element(cls, element: Element, *, new_uuid: Callable[[], str] | None = None) -> DomainDefinition:
        """Read a definition that is part of another document; the element is copied and becomes a <domain>.

        Raises: XmlDetail, XmlError, ConfigUnsupported, InternalError, InvalidArgument.
        """
        root = copy.deepcopy(element)
        root.tag = "domain"
        root.tail = None
        return cls._read(root, new_uuid)

    @classmethod
    def _read(cls, root: Element, new_uuid: Callable[[], str] | None) -> DomainDefinition:
        """Take over `root`, bring it into libvirt's form, read the facts; refuse in libvirt's order."""
        root.attrib.pop("id", "")
        name = _read_name(root)
        domain_type = _read_type(root)
        os_type, arch, machine = _read_os(root)
        uuid = _read_uuid(root, new_uuid)
        max_memory, memory = _read_memory(root)
        return cls(
            name=name,
            uuid=uuid,
            type=domain_type,
            os_type=os_type,
            arch=arch,
            machine=machine,
            max_memory=max_memory,
            memory=memory,
            vcpus=_read_vcpus(root),
            disks=parse_disks(root.iterfind("devices/disk")),
            text=format_document(root),
            element=root,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `text`, in hexadecimal: the definition's identity in the store and in hierarchies."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def _public_text(self) -> str:
        secrets = self.element.findall("devices/graphics[@passwd]")
        if not secrets:
            return self.text
        root = copy.deepcopy(self.element)
        for graphics in root.iterfind("devices/graphics[@passwd]"):
            for attribute in ("passwd", "passwdValidTo", "connected"):
                graphics.attrib.pop(attribute, "")
        return format_document(root)

    def format(self, *, secure: bool = False, id: int | None = None) -> str:  # noqa: A002 - libvirt's name for it
        """Return the document as libvirt prints it; secrets only when `secure`, `id` for a running domain."""
        text = self.text if secure else self._public_text
        if id is None:
            return text
        # the first attribute is `type` in libvirt's order, and the id follows it
        return re.sub(r"\A(<domain[^>]*? type='[^']*')", rf"\1 id='{id}'", text, count=1)

    def renamed(self, name: str) -> DomainDefinition:
        """Return the same definition under another name.

        Raises: XmlDetail, XmlError.
        """
        root = copy.deepcopy(self.element)
        child = root.find("name")
        assert child is not None  # noqa: S101 - every definition has been read with one
        child.text = name
        return self.with_element(root)

    def with_element(self, element: Element) -> DomainDefinition:
        """Return the definition that `element` describes, for drivers that pin machine types or addresses.

        Raises: XmlDetail, XmlError, ConfigUnsupported, InternalError, InvalidArgument.
        """
        return DomainDefinition.from_element(element, new_uuid=lambda: self.uuid)


def check_domain_name(name: str) -> None:
    """Refuse what cannot be a domain's name; it becomes part of file names.

    Raises: XmlDetail, XmlError.
    """
    if not name:
        raise XmlDetail("missing name information")
    if "/" in name:
        raise XmlError(f"name {name} cannot contain '/'")
    if _CONTROL.search(name):
        raise XmlDetail(f"invalid char in name: {_CONTROL.sub('?', name)}")
    if name in {".", ".."}:
        raise XmlError(f"name {name} is not possible: it would name a folder")
    if len(name.encode()) > MAX_NAME:
        raise XmlError(f"name {name[:32]}... is longer than {MAX_NAME} bytes")


def parse_scaled(number: str, unit: str | None, where: str) -> int:
    """Return the bytes that a number and a unit of libvirt mean; KiB without one (virScaleInteger).

    Raises: XmlError, XmlDetail, InvalidArgument.
    """
    match = _NUMBER.fullmatch(number)
    if match is None:
        raise XmlError(f"Invalid value '{number}' for element or attribute '{where}'")
    value = int(match[1]) * _scale(unit or "KiB")
    if value >= 1 << 63:
        raise XmlDetail(f"numerical overflow: value too large: {match[1]}{unit or 'KiB'}")
    return value


def _scale(unit: str) -> int:
    """virScaleInteger: k and KiB are 1024, KB is 1000."""
    low = unit.lower()
    if low in {"b", "byte", "bytes"}:
        return 1
    power = _SCALES.find(low[0]) + 1
    if power and low[1:] in {"", "ib"}:
        return int(1024**power)
    if power and low[1:] == "b":
        return int(1000**power)
    raise InvalidArgument(f"unknown suffix '{unit}'")


def _read_name(root: Element) -> str:
    name = root.findtext("name") or ""
    check_domain_name(name)
    return name


def _read_type(root: Element) -> str:
    domain_type = root.get("type")
    if domain_type is None:
        raise InternalError("missing domain type attribute")
    if domain_type not in _TYPES:
        raise ConfigUnsupported(f"invalid domain type {domain_type}")
    # libvirt prints `type` first whatever the order of the input
    attributes = [(name, value) for name, value in root.attrib.items() if name != "type"]
    root.attrib.clear()
    root.set("type", domain_type)
    for name, value in attributes:
        root.set(name, value)
    return domain_type


def _read_os(root: Element) -> tuple[str, str | None, str | None]:
    element = root.find("os/type")
    if element is None or not element.text:
        raise XmlError("an os <type> must be specified")
    if element.text not in _OS_TYPES:
        raise ConfigUnsupported(f"unknown OS type '{element.text}'")
    arch = element.get("arch")
    if arch is not None and arch not in _ARCHITECTURES:
        raise ConfigUnsupported(f"Unknown architecture {arch}")
    return element.text, arch, element.get("machine")


def _read_uuid(root: Element, new_uuid: Callable[[], str] | None) -> str:
    element = root.find("uuid")
    if element is None:
        if new_uuid is None:
            raise XmlError("missing uuid element in the domain definition")
        element = etree.Element("uuid")
        element.text = new_uuid()
        name = root.find("name")
        root.insert(0 if name is None else root.index(name) + 1, element)
    element.text = canonical_uuid(element.text or "")
    return element.text


def canonical_uuid(text: str) -> str:
    """Return a UUID as libvirt prints it; dashes are optional on input (virUUIDParse).

    Raises: InternalError.
    """
    digits = text.strip().replace("-", "")
    if not re.fullmatch(r"[0-9A-Fa-f]{32}", digits):
        raise InternalError("malformed uuid element")
    return str(UUID(digits))


def _read_memory(root: Element) -> tuple[int, int]:
    """Return the most and the present memory in bytes; both elements are rewritten in KiB, rounded up."""
    maximum = _kibibytes(root.find("memory"), "./memory[1]")
    if not maximum:
        maximum = sum(
            -(-parse_scaled(cell.get("memory", ""), cell.get("unit"), "./@memory") // KIB)
            for cell in root.iterfind("cpu/numa/cell")
        )
        if maximum:  # virDomainDefPostParseMemory: the total has that of memory devices in it
            maximum += sum(_kibibytes(size, "./size") for size in root.iterfind("devices/memory/target/size"))
    if not maximum:
        raise XmlError("Memory size must be specified via <memory> or in the <numa> configuration")
    current = min(_kibibytes(root.find("currentMemory"), "./currentMemory[1]") or maximum, maximum)
    _set_kibibytes(root, "memory", maximum, after=("description", "title", "metadata", "uuid", "name"))
    _set_kibibytes(root, "currentMemory", current, after=("memory",))
    return maximum * KIB, current * KIB


def _kibibytes(element: Element | None, where: str) -> int:
    if element is None or not element.text:
        return 0
    return -(-parse_scaled(element.text, element.get("unit"), where) // KIB)


def _set_kibibytes(root: Element, tag: str, value: int, *, after: tuple[str, ...]) -> Element:
    element = root.find(tag)
    if element is None:
        element = etree.Element(tag)
        places = [root.index(found) for name in after if (found := root.find(name)) is not None]
        root.insert(max(places, default=-1) + 1, element)
    element.set("unit", "KiB")
    element.text = str(value)
    return element


def _read_vcpus(root: Element) -> int:
    element = root.find("vcpu")
    text = element.text if element is not None else None
    if element is None or not text:
        return 1
    if not re.fullmatch(r"\s*\+?[0-9]{1,9}", text):
        raise XmlError("maximum vcpus count must be an integer")
    maximum = int(text)
    if maximum == 0:
        raise ConfigUnsupported("invalid maximum number of vCPUs '0'")
    current = element.get("current")
    if current is not None and not re.fullmatch(r"\s*\+?[0-9]{1,9}", current):
        raise XmlError("current vcpus count must be an integer")
    if current is not None and int(current) > maximum:
        raise ConfigUnsupported("maximum vCPU count must not be less than current vCPU count")
    return maximum
