# SPDX-License-Identifier: Apache-2.0
"""Ports of a local stack: kept where free, moved as one block where not, never shared by two stacks."""

import socket

import pytest

from lateen_cli.ports import BLOCK, BLOCKS, REPLICAS, WORKERS, Ports, choose, claim, free, layout, lingering


class Guard(socket.socket):
    """A guard that holds no port."""


def all_claims(_block: int) -> socket.socket:
    """Nobody else is there."""
    return Guard()


def all_free(_port: int) -> bool:
    """Nothing listens."""
    return True


def test_a_block_holds_every_port_once() -> None:
    """Single ports, replicas' and workers' ranges lie in the block and do not overlap."""
    ports = layout(BLOCKS[0]).model_dump()
    replicas, workers = ports.pop("replicas"), ports.pop("workers")
    used = [*ports.values(), *range(replicas, replicas + REPLICAS), *range(workers, workers + WORKERS)]
    assert len(used) == len(set(used))
    assert set(used) <= set(range(BLOCKS[0], BLOCKS[0] + BLOCK))


def test_blocks_do_not_overlap_and_stay_below_the_ephemeral_range() -> None:
    """Two stacks with different blocks share no port, and no outgoing connection takes one."""
    assert BLOCKS.step == BLOCK
    assert BLOCKS[-1] + BLOCK <= 32768


def test_previous_ports_are_kept_while_they_are_free() -> None:
    """A restarted stack has the addresses its clients know."""
    before = layout(BLOCKS[7])
    after, guard = choose(before, all_claims, all_free)
    guard.close()
    assert after == before


@pytest.mark.parametrize("taken", [1, 40, BLOCK - 1])
def test_one_taken_port_moves_the_whole_block(taken: int) -> None:
    """Where another program listens on a port of the block, a block without any is chosen."""
    before = layout(BLOCKS[7])
    after, guard = choose(before, all_claims, lambda port: port != BLOCKS[7] + taken)
    guard.close()
    assert after != before
    assert after == layout(after.block)


def chosen(before: Ports) -> Ports:
    """Ports for a start after one with the ports `before`."""
    ports, guard = choose(before, all_claims)
    guard.close()
    return ports


def used(port: int) -> socket.socket:
    """A server as Ray Serve opens it, with a connection that the server has closed."""
    server = socket.socket()
    server.bind(("127.0.0.1", port))
    server.listen()
    with socket.create_connection(("127.0.0.1", port)) as client:
        server.accept()[0].close()
        assert client.recv(1) == b""
    return server


def test_a_stack_that_was_stopped_just_now_keeps_its_ports() -> None:
    """A closed connection of a replica is nobody's port, though it can't be opened; a replica that still listens is, and so
    is a closed connection at a port that one part alone must have.
    """
    before, guard = choose(None)
    with guard:
        server = used(before.replicas)
        assert chosen(before) != before
        server.close()
        assert not free(before.replicas)
        assert before.replicas in lingering()
        assert chosen(before) == before
        used(before.gateway).close()
        assert chosen(before) != before


def test_a_claimed_block_is_passed_over() -> None:
    """A block that another stack has claimed is not used, also where nothing listens in it yet."""
    claimed = BLOCKS[7]
    after, guard = choose(layout(claimed), lambda block: None if block == claimed else Guard(), all_free)
    guard.close()
    assert after.block != claimed


def test_no_free_block_is_an_error() -> None:
    """With every block claimed the start fails with a message instead of a guess."""
    with pytest.raises(OSError, match="no block of free ports"):
        choose(None, lambda _block: None, all_free)


def test_a_claim_excludes_a_second_one() -> None:
    """The operating system lets only one process claim a block."""
    first = next(guard for block in BLOCKS if (guard := claim(block)))
    with first:
        assert claim(first.getsockname()[1]) is None


def test_ports_survive_json() -> None:
    """What is remembered is what was chosen."""
    ports = layout(BLOCKS[3])
    assert Ports.model_validate_json(ports.model_dump_json()) == ports
