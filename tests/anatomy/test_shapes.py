"""Bodies are as deep as geometry says, and paint covers shares of pixels."""

import math

import pytest
import torch

from medrecon.anatomy.canvas import Canvas
from medrecon.anatomy.dice import Dice
from medrecon.anatomy.frame import Frame, plain_grid
from medrecon.anatomy.shapes import both, ellipsoid, tube, without
from medrecon.anatomy.tissues import Tissue
from medrecon.anatomy.vessels import Rods, depth_of, random_tree

GRID = plain_grid((9, 41, 37), 1.0, 2.0)


def canvas():
    return Canvas(
        Frame(GRID, 1.0),
        {Tissue.AIR: 0.0, Tissue.FAT: 1.0, Tissue.MUSCLE: 5.0}.__getitem__,
        Dice(torch.Generator().manual_seed(0)),
    )


def test_a_sphere_is_as_deep_as_its_radius_less_the_distance():
    depth = ellipsoid(GRID, (1.0, 2.0, -3.0), (8.0, 8.0, 8.0))
    r = ((GRID.z - 1) ** 2 + (GRID.y - 2) ** 2 + (GRID.x + 3) ** 2).sqrt()
    assert torch.allclose(depth, 8 - r, atol=1e-4)


def test_an_ellipsoid_fills_its_volume():
    grid = plain_grid((60, 60, 60), 1.0, 1.0)
    inside = ellipsoid(grid, (0, 0, 0), (10.0, 20.0, 14.0), turn=0.4) > 0
    assert float(inside.sum()) == pytest.approx(4 / 3 * math.pi * 10 * 20 * 14, rel=0.01)


def test_the_centre_is_as_deep_as_the_smallest_radius():
    assert float(ellipsoid(GRID, (0, 0, 0), (8.0, 5.0, 6.0))[4, 20, 18]) == 5.0


def test_a_cylinder_knows_no_height_and_a_box_has_corners():
    flat = ellipsoid(GRID, (0, 0, 0), (math.inf, 7.4, 7.4))
    assert torch.equal(flat[0], flat[8])
    box = ellipsoid(GRID, (0, 0, 0), (math.inf, 7.4, 7.4), power=40)
    assert float((box[4] > 0).sum()) == pytest.approx(15 * 15, rel=0.03)
    assert float((box[4] > 0).sum()) > 1.15 * float((flat[4] > 0).sum())


def test_a_rod_is_as_deep_as_its_radius_less_the_distance_to_its_line():
    depth = tube(GRID, (0, -8, 0), (0, 8, 0), (3.0, 5.0))
    assert float(depth[4, 20, 18]) == pytest.approx(4.0)
    assert float(depth[4, 20, 21]) == pytest.approx(1.0)
    assert float(depth[4, 40, 18]) == pytest.approx(5.0 - 12)


def test_common_parts_and_cuts():
    a, b = torch.tensor([3.0, 1.0, -2.0]), torch.tensor([1.0, 2.0, 5.0])
    assert both(a, b).tolist() == [1.0, 1.0, -2.0]
    assert without(a, b).tolist() == [-1.0, -2.0, -5.0]


def test_paint_covers_the_area_of_a_disc_in_shares_of_pixels():
    picture = canvas()
    picture.ball((0, 0.3, -0.2), (math.inf, 9.0, 9.0), Tissue.FAT)
    area = picture.image.sum((1, 2))
    assert torch.allclose(area, torch.full((9,), math.pi * 81), rtol=0.005)
    assert 0 < float(picture.image[4].frac().max()) < 1


def test_nothing_is_painted_beyond_the_limit():
    picture = canvas()
    picture.limit = 5.0 - GRID.x.abs()
    picture.ball((0, 0, 0), (99, 15, 15), Tissue.FAT)
    assert float(picture.image[GRID.x.abs() > 6].max()) == 0
    assert float(picture.image[4, 20, 18]) == 1


def test_a_tissue_hides_what_lies_below():
    picture = canvas()
    picture.ball((0, 0, 0), (99, 15, 15), Tissue.FAT)
    picture.rod((0, -30, 0), (0, 30, 0), (2.0, 2.0), Tissue.MUSCLE)
    assert float(picture.image[4, 20, 18]) == 5
    assert float(picture.image[4, 20, 25]) == 1


def test_rods_drawn_together_are_those_drawn_one_by_one():
    ends = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(2)) * 6
    stop = ends[0] + 6 * torch.nn.functional.normalize(ends[1])
    rods = Rods(ends[0], stop, torch.linspace(0.5, 3, 12))
    found = depth_of(Frame(GRID, 1.0), rods)
    ends = zip(rods.start.tolist(), rods.stop.tolist(), rods.radius.tolist(), strict=True)
    one_by_one = [tube(GRID, tuple(a), tuple(b), (r, r)) for a, b, r in ends]
    wanted = torch.stack(one_by_one).amax(0)
    near = wanted > -0.4
    assert int(near.sum()) > 300
    assert torch.allclose(found[near], wanted[near], atol=1e-4)
    assert bool((found[~near] < -0.39).all())


def test_branches_obey_murrays_law_at_most():
    tree = random_tree(
        torch.Generator().manual_seed(1),
        (0, 0, 0),
        [(0, 0, 1)],
        radius=5.0,
        length=30.0,
        levels=5,
    )
    radii = tree.radius.unique(sorted=True).flip(0)
    assert float(radii[0]) == 5
    assert float(radii[1]) ** 3 + float(radii[2]) ** 3 <= 5.0**3 * 1.01**3 * 1.16
    assert float((tree.stop - tree.start).norm(dim=1).max()) <= 7.01
    assert float(tree.radius.min()) >= 0.4
