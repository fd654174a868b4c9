"""Tests of the agreement that precedes a race of operations, without a process: python -m unittest ops_test"""

import pathlib
import tempfile
import unittest

import torch

from ops_race import TOLERANCE, check
from ops_worker import differences


class Answers:
    """A side that answers the same to everything."""

    def __init__(self, answer):
        self.turn = lambda command: answer


class Agreement(unittest.TestCase):
    def held(self, difference):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "some-case.safetensors").touch()
            return check({"id": "some-case"}, [Answers({}), Answers({"y": 0.0, "d.x": difference})], folder)

    def test_a_case_that_disagrees_is_named(self):
        for difference in (2 * TOLERANCE, float("nan")):
            with self.assertRaisesRegex(SystemExit, "some-case: d.x differs"):
                self.held(difference)
        self.assertEqual(self.held(TOLERANCE / 2), TOLERANCE / 2)

    def test_one_wrong_number_of_a_million_is_seen(self):
        expected = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(1))
        found = expected.clone()
        self.assertEqual(differences({"y": found}, {"y": expected}), {"y": 0.0})
        found[3, 7] += 1
        self.assertGreater(differences({"y": found}, {"y": expected})["y"], TOLERANCE)

    def test_results_and_shapes_must_be_the_same(self):
        x = torch.ones(2, 3)
        for found in ({}, {"y": x, "d.x": x}, {"y": x.T}):
            with self.assertRaises(SystemExit):
                differences(found, {"y": x})


if __name__ == "__main__":
    unittest.main()
