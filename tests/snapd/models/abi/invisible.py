"""What a guest cannot see of its definition, by the place in the document, each with the reason."""

from __future__ import annotations

from typing import Final

from virtsnapd.models.disk import words

WORDS: Final = "words for people and for management"
HOST: Final = "where on the host it is, or what the host does for it; a saved state runs elsewhere too"
RUN_TIME: Final = "changes while a guest runs, so that a saved state does not depend on it"
START: Final = (
    "read by the firmware at the next start of the guest, not part of a saved state; libvirt lets it change"
)
POLICY: Final = "what is done when the guest ends or hangs"
CLOCK: Final = "how time is kept, not which clocks there are; libvirt lets it change, for hosts differ"
CONTAINER: Final = "rights of processes in a container, which has no machine"
TUNING: Final = "how fast, not what; libvirt lets it change"
OTHERWISE: Final = "says in another way what is compared elsewhere"

INVISIBLE: Final = {
    "title": WORDS,
    "description": WORDS,
    "vcpu/@placement": HOST,
    "vcpu/@current": OTHERWISE,  # <vcpus> has each of them
    "vcpus/vcpu/@hotpluggable": RUN_TIME,
    "iothreads": HOST,
    "iothreadids": HOST,
    "cputune": TUNING,
    "os/loader": START,
    "os/nvram": START,
    "os/boot": START,
    "os/bootmenu": START,
    "os/bios": START,
    "features/msrs": HOST,
    "features/tcg": HOST,
    "features/capabilities/mknod": CONTAINER,
    "features/capabilities/sys_admin": CONTAINER,
    "cpu/@match": HOST,  # what is asked of the host's processor
    "cpu/model/@fallback": HOST,
    "clock/@offset": CLOCK,
    "clock/@adjustment": CLOCK,
    "clock/@basis": CLOCK,
    "clock/timer/@tickpolicy": CLOCK,
    "clock/timer/@track": CLOCK,
    "clock/timer/catchup": CLOCK,
    "on_poweroff": POLICY,
    "on_reboot": POLICY,
    "on_crash": POLICY,
    "devices/emulator": HOST,
    "devices/disk/@type": HOST,
    **{
        f"devices/disk/driver/@{name}": HOST
        for name in words(
            "name type ioeventfd discard discard_no_unref detect_zeroes cache io copy_on_read iothread error_policy "
            "rerror_policy"
        )
    },
    "devices/disk/source": HOST,
    "devices/disk/iotune": TUNING,
    "devices/disk/alias": WORDS,
    "devices/disk/address/@multifunction": OTHERWISE,  # whether other functions of the slot are taken
    "devices/disk/target/@tray": RUN_TIME,
    **{
        f"devices/controller/driver/@{name}": TUNING
        for name in ("cmd_per_lun", "max_sectors", "ioeventfd", "iothread")
    },
    "devices/controller/@maxGrantFrames": HOST,
    "devices/controller/@maxEventChannels": HOST,
    **{
        f"devices/filesystem/{name}": HOST
        for name in words("@type @accessmode @multidevs @fmode @dmode driver/@type driver/@wrpolicy source")
    },
    "devices/interface/@type": HOST,
    "devices/interface/source": HOST,
    "devices/interface/target": HOST,
    "devices/interface/driver/@name": HOST,
    "devices/interface/driver/@txmode": HOST,
    "devices/interface/driver/@ioeventfd": HOST,
    "devices/interface/link": RUN_TIME,
    "devices/interface/coalesce": TUNING,
    "devices/interface/rom/@file": HOST,
    "devices/smartcard/@mode": HOST,
    "devices/smartcard/@type": HOST,
    **{f"devices/{tag}/@type": HOST for tag in ("serial", "parallel", "console", "channel")},
    **{f"devices/{tag}/source": HOST for tag in ("serial", "channel")},
    "devices/serial/protocol": HOST,
    "devices/console/target/@port": OTHERWISE,  # its place among the consoles
    "devices/input/source": HOST,
    "devices/tpm/backend/@persistent_state": HOST,
    "devices/graphics": HOST,
    "devices/sound/audio": HOST,
    "devices/audio": HOST,
    "devices/video/driver/@vgaconf": HOST,
    "devices/video/model/@primary": OTHERWISE,  # the first card is the primary one
    "devices/video/model/acceleration/@rendernode": HOST,
    **{
        f"devices/hostdev/{name}": HOST  # another device of the same kind may take its place, as in a migration
        for name in words("@managed @model @display @rawio @sgio source driver rom")
    },
    "devices/watchdog/@action": POLICY,
    "devices/memballoon/stats": HOST,
    "devices/rng/rate": TUNING,
    "devices/rng/backend": HOST,
    "devices/shmem/@name": HOST,
    "devices/shmem/server/@path": HOST,
    "devices/memory/@access": HOST,
    "devices/memory/source/pagesize": HOST,
    "devices/memory/source/nodemask": HOST,
    "devices/memory/source/path": HOST,
    "devices/vsock/cid": HOST,  # unique on a host, so it changes with the host
    "devices/crypto/@type": HOST,
    "devices/crypto/backend/@model": HOST,
    "seclabel": HOST,
}
"""By the beginning of the path below /domain, without positions."""


def reason(place: str) -> str | None:
    """Return why what stands at a path without positions is not compared; None if nothing says so."""
    path = place.removeprefix("/domain/")
    return next(
        (why for start, why in INVISIBLE.items() if path == start or path.startswith(start + "/")), None
    )
