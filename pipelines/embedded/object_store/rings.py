"""Write the three rings of a Swift with one device, in the object store's own environment.

python rings.py FOLDER ACCOUNT_PORT CONTAINER_PORT OBJECT_PORT
"""

from __future__ import annotations

import sys


def write_ring(path: str, port: int) -> None:
    """2**4 partitions, one replica, one device `d1` on loopback."""
    from swift.common.ring import RingBuilder  # type: ignore[import-not-found]

    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1})
    builder.rebalance(seed="evergreen")
    builder.get_ring().save(path)


if __name__ == "__main__":
    folder = sys.argv[1]
    for kind, ring_port in zip(("account", "container", "object"), sys.argv[2:5], strict=True):
        write_ring(f"{folder}/{kind}.ring.gz", int(ring_port))
