"""The spool alone: what is kept, what is refused, what a crash leaves."""

import os
import tempfile
import unittest
from pathlib import Path

from candor_client import Spool, SpoolError, SpoolFull

GOLDEN = Path(__file__).resolve().parents[3] / "testdata" / "spool"


class SpoolTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def open(self, **more):
        spool = Spool(self.folder.name, "till", **more)
        self.addCleanup(spool.close)
        return spool

    def test_what_was_taken_is_there_again_in_its_order(self):
        spool = self.open()
        self.assertEqual(spool.append([b"one", b"two"]), 1)
        self.assertEqual(spool.append([b"three"]), 3)
        spool.close()
        spool = self.open()
        self.assertEqual(spool.waiting(10, 1000), [(1, b"one"), (2, b"two"), (3, b"three")])
        self.assertEqual(spool.waiting(2, 1000), [(1, b"one"), (2, b"two")])
        spool.acknowledge(2)
        self.assertEqual(spool.waiting(10, 1000), [(3, b"three")])
        self.assertEqual(spool.append([b"four"]), 4)
        spool.close()
        spool = self.open()
        self.assertEqual(spool.waiting(10, 1000), [(3, b"three"), (4, b"four")])
        spool.acknowledge(4)
        self.assertEqual((spool.pending, spool.waiting(10, 1000)), (0, []))
        self.assertEqual(list(Path(self.folder.name).glob("*.spool")), [])
        spool.close()
        with self.assertRaises(SpoolError):
            Spool(self.folder.name, "other")
        self.assertEqual(self.open().append([b"five"]), 5)

    def test_a_frame_that_was_cut_off_was_never_taken(self):
        spool = self.open()
        spool.append([b"one", b"two"])
        spool.close()
        path = next(Path(self.folder.name).glob("*.spool"))
        whole = path.read_bytes()
        for end in range(len(whole)):
            path.write_bytes(whole[:end])
            spool = Spool(self.folder.name, "till")
            held = [record for _, record in spool.waiting(10, 1000)]
            self.assertIn(held, ([], [b"one"]))
            self.assertEqual(spool.next_number, len(held) + 1)
            spool.close()
            if not path.exists():
                path.write_bytes(b"")

    def test_it_is_sealed_and_bounded_and_of_one_process(self):
        spool = self.open(bytes_max=4000)
        spool.append([b"a record about somebody"])
        for path in Path(self.folder.name).iterdir():
            self.assertNotIn(b"somebody", path.read_bytes())
        with self.assertRaises(SpoolFull):
            spool.append([os.urandom(5000)])
        self.assertEqual(spool.pending, 1)
        with self.assertRaises(ValueError):
            spool.append([bytes(70_000)])
        spool.close()
        with self.assertRaises(SpoolError):
            Spool(self.folder.name, "till", key=bytes(32)).waiting(1, 1000)

    def test_the_golden_spool_opens(self):
        for name in ("00000000000000000001.spool", "acknowledged"):
            (Path(self.folder.name) / name).write_bytes((GOLDEN / name).read_bytes())
        spool = self.open(key=bytes(range(32)))
        self.assertEqual(spool.waiting(10, 1000), [(2, b"two"), (3, b"three")])


if __name__ == "__main__":
    unittest.main()
