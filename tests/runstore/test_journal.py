"""Journals survive a cut last line and altered bytes."""

from workflow.runstore.journal import Journal


def test_journal__keeps_what_was_added_and_drops_a_cut_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, "key")
    journal.extend({0: {"crc": [1, 2]}})
    journal.extend({7: {"crc": [3]}, 2: {"crc": []}, 5: {"crc": [5]}})
    whole, told = path.read_bytes(), dict(journal.entries)
    ends = [end for end, byte in enumerate(whole) if byte == ord("\n")][1:]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        again = Journal(path, "key")
        # A line is whole without the byte that ends it.
        n_whole = sum(length >= end for end in ends)
        assert again.entries == {i: told[i] for i in [0, 7, 2, 5][:n_whole]}
        again.extend({9: {"crc": [4]}, 1: {}})
        assert Journal(path, "key").entries == again.entries
    path.write_bytes(whole)
    assert Journal(path, "key").entries[7] == {"index": 7, "crc": [3]}


def test_journal__of_a_batch_is_that_of_its_entries_one_by_one(tmp_path):
    records = {4: {"crc": [1]}, 0: {"crc": [2, 3], "n": 1}, 3: {}}
    together, apart = (Journal(tmp_path / name, "key") for name in ("together", "apart"))
    together.extend(records)
    for index, record in records.items():
        apart.append(index, record)
    assert together.entries == apart.entries
    assert together.path.read_bytes() == apart.path.read_bytes()


def test_journal__drops_a_line_with_an_altered_byte(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, "key")
    journal.extend({0: {"sizes": [11, 22]}, 1: {"sizes": [33]}})
    whole, told = path.read_bytes(), dict(journal.entries)
    for place in range(len(whole)):
        for bit in (1, 128):
            altered = bytearray(whole)
            altered[place] ^= bit
            path.write_bytes(altered)
            _, entries = Journal.read(path)
            # An altered name of the checksum is one more key, and alters no other.
            assert all(told[i].items() <= entries[i].items() for i in entries), altered
            assert Journal.read(path)[0] in ("key", None)
            assert path.read_bytes() == altered, "reading leaves it as it is"


def test_journal__of_another_key_is_void(tmp_path):
    Journal(tmp_path / "journal.jsonl", "old").extend({0: {}})
    assert Journal.key_of(tmp_path / "journal.jsonl") == "old"
    assert Journal(tmp_path / "journal.jsonl", "new").entries == {}
    assert Journal(tmp_path / "journal.jsonl", "old").entries == {}
