"""Annotation files as people have them: each is put right, with its count, or refused in a line."""

import copy
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from ablations.data.coco import COCO_CLASSES, file_name, files, keep
from tests.data.conftest import Case

NAN, INFINITY = float("nan"), float("inf")


def without(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Images and annotations without some keys."""
    return {
        part: [{k: v for k, v in entry.items() if k not in keys} for entry in content[part]]
        for part in ("images", "annotations")
    }


def each(entries: list[dict[str, Any]], **values: Any) -> None:
    for entry in entries:
        entry.update(values)


def test_a_clean_file_stays_as_it_is_to_the_byte(case: Case) -> None:
    before = copy.deepcopy(case.content)
    found = case.check()
    assert (found.error, found.notes, found.content) == (None, [], before)
    assert (found.boxes, found.crowds) == (12, 0)
    digest = keep(found, case.root / "kept")
    assert digest == found.source == hashlib.sha256(case.file.read_bytes()).hexdigest()
    kept = case.root / "kept" / file_name(digest)
    assert [*kept.parent.iterdir()] == [kept]
    assert kept.read_bytes() == case.file.read_bytes()


def test_a_mended_file_is_named_by_its_own_hash_and_mended_once(case: Case) -> None:
    each(case.annotations, area=0)
    found = case.check()
    digest = keep(found, case.root)
    kept = case.root / file_name(digest)
    assert digest == hashlib.sha256(kept.read_bytes()).hexdigest() != found.source
    assert keep(found, None) == digest
    case.content = json.loads(kept.read_text())
    assert case.content == found.content
    again = case.check()
    assert (again.notes, again.changed) == ([], False)


def test_what_is_written_is_whole_or_absent(case: Case) -> None:
    found = case.check()
    case.file.write_text("{}")  # meanwhile
    with pytest.raises(ValueError, match="has changed while it was checked"):
        keep(found, case.root / "kept")
    assert list((case.root / "kept").iterdir()) == []


def test_keys_of_others_are_carried_along(case: Case) -> None:
    case.content["info"] = {"year": 2026}
    case.images[0]["group"] = "scene 4"
    case.annotations[0]["attributes"] = {"occluded": True}
    assert case.check().changed is False
    case.annotations[5].pop("iscrowd")
    content = case.passes()
    assert content["info"] == {"year": 2026}
    assert content["images"][0]["group"] == "scene 4"
    assert content["annotations"][0]["attributes"] == {"occluded": True}
    digest = keep(case.check(), case.root)
    assert json.loads((case.root / file_name(digest)).read_text()) == content


def test_segmentations_are_left_out_of_what_is_mended_unless_masks_are_loaded(case: Case) -> None:
    case.annotations[0]["segmentation"] = [[4, 5, 15, 5, 15, 17]]
    case.annotations[1]["segmentation"] = {"counts": [0, 4], "size": [48, 64]}
    assert case.check().changed is False
    case.annotations[5].pop("iscrowd")
    assert not any("segmentation" in entry for entry in case.passes()["annotations"])
    masks = case.passes(masks=True)["annotations"]
    assert [entry.get("segmentation") for entry in masks] == [
        entry.get("segmentation") for entry in case.annotations
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[{"segmentation":[[1,2],[3.5,4]],"a":1},{"segmentation" : [ ],"b":[1]}]',
        '[{"b":[[1]],"segmentation": [[1, 2]]}]',
        '[{"segmentation":{"counts":[1,2],"size":[3,4]},"b":[1]}]',
        '[{"segmentation":[{"counts":[1]},[[2]]],"b":[1]}]',
        '[{"name":"a \\"segmentation\\": [[1]] b","segmentation":null}]',
    ],
)
def test_cutting_polygons_out_of_the_text_changes_nothing_else(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablations.data.coco.reading import _without_polygons

    monkeypatch.setattr("ablations.data.coco.reading._LONG", 0)

    def parsed(text: str) -> Any:
        entries = json.loads(text)
        for entry in entries:
            value = entry.get("segmentation")
            if isinstance(value, list) and all(isinstance(part, list) for part in value):
                entry["segmentation"] = []
        return entries

    assert json.loads(_without_polygons(text.encode())) == parsed(text)


# Names and ids


def test_classes_are_matched_by_name_whatever_the_order_and_ids(case: Case) -> None:
    case.content["categories"] = [
        dict(id=9, name="dog", supercategory="animal"),
        dict(id="3", name="cat"),
    ]
    for annotation in case.annotations:
        annotation["category_id"] = {1: 3, 2: 9}[annotation["category_id"]]
    content = case.passes("another order", "by name")
    assert content["categories"] == [
        dict(id=1, name="cat"),
        dict(id=2, name="dog", supercategory="animal"),
    ]
    assert [a["category_id"] for a in content["annotations"]] == [1, 2] * 6


def test_category_ids_with_gaps_are_kept_where_the_order_is_the_classes(case: Case) -> None:
    """As COCO's are: predictions are compared by them."""
    case.content["categories"] = [dict(id=3, name="cat"), dict(id=90, name="dog")]
    for annotation in case.annotations:
        annotation["category_id"] = {1: 3, 2: 90}[annotation["category_id"]]
    assert case.check().changed is False
    case.annotations[0].pop("area")
    content = case.passes()
    assert [c["id"] for c in content["categories"]] == [3, 90]
    assert [a["category_id"] for a in content["annotations"]] == [3, 90] * 6


def test_without_classes_the_files_own_are_taken(case: Case) -> None:
    case.content["categories"].reverse()
    found = case.check(classes=None)
    assert found.classes == ("dog", "cat")
    assert (found.changed, found.content) == (False, case.content)


def test_accents_are_compared_and_not_their_spelling(case: Case) -> None:
    case.content["categories"][0]["name"] = "caf\u0065\u0301"  # e and an accent
    content = case.passes(classes=("caf\u00e9", "dog"))
    assert content["categories"][0]["name"] == "caf\u00e9"


def test_a_category_listed_twice_is_one_if_only_one_has_annotations(case: Case) -> None:
    case.content["categories"].insert(0, dict(id=0, name="cat"))
    content = case.passes("'cat'", "2 times", "id 1")
    assert [c["id"] for c in content["categories"]] == [1, 2]
    assert [a["category_id"] for a in content["annotations"]] == [1, 2] * 6
    case.annotations[0]["category_id"] = 0
    case.refused("'cat'", "2 times", "rename")


@pytest.mark.parametrize(
    ("category", "words"),
    [
        (dict(id=3), ("1 category without name", "categories[2]", "id 3")),
        (dict(id=3, name=None), ("without name", "categories[2]")),
        (dict(name="cow"), ("1 category without id", "categories[2]")),
        (dict(id=1, name="cow"), ("categories[0] and categories[2]", "'cat'", "'cow'")),
    ],
)
def test_a_category_that_is_none_is_refused(case: Case, category: dict, words: tuple) -> None:
    case.content["categories"].append(category)
    case.refused(*words)


def test_a_class_that_the_file_does_not_have_is_refused_with_those_it_has(case: Case) -> None:
    case.refused("has no class 'Cat'", "'cat', 'dog'", classes=("Cat", "dog"))
    case.refused("the config names no classes", classes=COCO_CLASSES)


def test_categories_that_are_no_class_are_left_out_with_their_count(case: Case) -> None:
    content = case.passes("6 annotations", "'cat'", classes=("dog",))
    assert content["categories"] == [dict(id=1, name="dog")]
    assert [a["category_id"] for a in content["annotations"]] == [1] * 6


def test_a_category_that_is_not_listed_is_refused(case: Case) -> None:
    """Left out it could hide ids that are off by one."""
    for annotation in case.annotations:
        annotation["category_id"] -= 1
    case.refused("6 annotations of no listed category", "annotations[0], id 1", "category_id 0")


def test_annotations_of_images_that_are_not_listed_are_left_out(case: Case) -> None:
    del case.images[5]
    content = case.passes("2 annotations", "annotations[10], id 11", "image_id 6")
    assert {a["image_id"] for a in content["annotations"]} == {1, 2, 3, 4, 5}
    case.annotations[0].pop("image_id")
    case.refused("1 annotation without a usable image_id", "annotations[0], id 1")


@pytest.mark.parametrize(
    "new", [lambda i: f"a{i}f", lambda i: 2**53 + i, lambda i: f"00{i}", lambda i: 10**30 + i]
)
def test_image_ids_that_detections_cannot_carry_are_numbered(case: Case, new: Any) -> None:
    for image in case.images:
        image["id"] = new(image["id"])
    for annotation in case.annotations:
        annotation["image_id"] = new(annotation["image_id"])
    content = case.passes("6 images", "images[0]", "id_in_file")
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4, 5, 6]
    assert content["images"][2]["id_in_file"] == new(3)
    assert [a["image_id"] for a in content["annotations"]] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


@pytest.mark.parametrize("new", [str, float])
def test_ids_written_as_text_or_decimals_are_the_numbers_they_say(case: Case, new: Any) -> None:
    expected = copy.deepcopy(case.content)
    for image in case.images:
        image["id"] = new(image["id"])
    for annotation in case.annotations[::2]:  # and the others as numbers
        annotation["image_id"] = new(annotation["image_id"])
        annotation["category_id"] = new(annotation["category_id"])
        annotation["id"] = new(annotation["id"])
    assert case.passes("whole numbers") == expected


def test_two_images_with_one_id_are_refused_and_one_listed_twice_is_taken_once(case: Case) -> None:
    case.images.append(dict(case.images[1]))
    content = case.passes("1 image listed twice")
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4, 5, 6]
    case.images[6] = case.images[2] | dict(id=2)
    case.refused("images[1] and images[6]", "id 2")


@pytest.mark.parametrize("value", [None, True, 1.5, NAN, [1]])
def test_an_id_that_is_none_is_refused(case: Case, value: Any) -> None:
    case.images[3]["id"] = value
    case.refused("1 image without a usable id", "images[3]")


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        (range(12), "begin at 0"),
        ([1, 1, *range(3, 13)], "not unique (1 used again)"),
        (["a", *range(2, 13)], "not all whole numbers"),
        ([None] * 12, "not all whole numbers"),
        ([2**53, *range(2, 13)], "not all whole numbers"),
    ],
)
def test_annotation_ids_are_numbered_where_they_cannot_be_used(case: Case, ids, why: str) -> None:
    expected = copy.deepcopy(case.content)
    for annotation, id in zip(case.annotations, ids, strict=True):
        annotation["id"] = id
    assert case.passes(why) == expected


# Keys that are missing


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("keys", "note"),
    [
        (("iscrowd",), "12 annotations without iscrowd"),
        (("area",), "12 annotations without a usable area"),
        (("width", "height"), "6 images without width and height"),
        (("height",), "6 images without width and height"),
        (("id",), "annotation ids"),
    ],
)
def test_what_can_be_computed_is_computed(case: Case, train: bool, keys, note: str) -> None:
    case.train = train
    expected = copy.deepcopy(case.content)
    less = without(case.content, *keys)
    if keys == ("id",):
        less["images"] = case.images
    case.content |= less
    assert case.passes(note) == expected


def test_a_box_that_is_missing_is_that_around_the_polygons(case: Case) -> None:
    expected = copy.deepcopy(case.content)
    case.annotations[0].pop("bbox")
    case.annotations[0]["segmentation"] = [[4, 5, 15, 5, 15, 10], [4, 9, 10, 17, 6, 12]]
    assert case.passes("1 annotation without bbox")["annotations"] == expected["annotations"]
    case.annotations[2].pop("bbox")
    case.refused("1 annotation without bbox", "annotations[2], id 3", "[x, y, width, height]")


def test_images_without_file_name_are_refused_together(case: Case) -> None:
    del case.images[2]["file_name"], case.images[4]["file_name"]
    case.refused("2 images without file_name", "images[2], id 3")


def test_all_mistakes_of_a_file_are_told_at_once(case: Case) -> None:
    del case.images[2]["file_name"]
    (case.root / "images" / "1.png").unlink()
    case.annotations[0]["category_id"] = 5
    case.annotations[1]["bbox"] = [1, 2, "3", 4]
    case.annotations[2]["iscrowd"] = "no"
    error = case.refused("file_name", "missing", "category_id 5", "no number", "iscrowd")
    assert error.count("first:") == 5


# Boxes


def test_boxes_from_0_to_1_are_refused_with_the_mend(case: Case) -> None:
    for annotation in case.annotations:
        annotation["bbox"] = [v / 96 for v in annotation["bbox"]]
    case.annotations[0]["bbox"] = [0.5416666666666666, 0.25, 0.3333333333333333, 0.2]
    case.refused("12 of 12 boxes within 0..1", "annotations[0], id 1", "multiply x and width")
    case.refused("bbox [0.541667, 0.25, 0.333333, 0.2])")  # readable, whatever its digits


def test_corners_in_place_of_sizes_are_refused(case: Case) -> None:
    for annotation in case.annotations:
        x, y = 20 + annotation["id"], 16 + annotation["id"]
        annotation["bbox"] = [x, y, x + 20, y + 15]
    case.refused("beyond their image", "corners", "x, y, width, height")


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([1, 2, NAN, 4], ("1 box with NaN", "annotations[3], id 4")),
        ([1, INFINITY, 3, 4], ("1 box with NaN or infinity", "annotations[3]")),
        ([1, 2, 10**400, 4], ("1 box with NaN or infinity",)),
        ([1, 2, "3", 4], ("1 annotation whose bbox holds what is no number", "annotations[3]")),
        ([1, 2, None, 4], ("no number",)),
        ([True, 2, 3, 4], ("no number",)),
        ([1, 2, 3], ("1 annotation whose bbox is not a list of four",)),
        ("1 2 3 4", ("not a list of four",)),
        ({"x": 1}, ("not a list of four",)),
        ([], ("without bbox",)),
    ],
)
def test_a_box_that_is_none_is_refused(case: Case, box: Any, words: tuple[str, ...]) -> None:
    case.annotations[3]["bbox"] = box
    case.refused(*words)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("box", "note"),
    [
        ([4, 5, 0, 12], "1 box of no width or height left out (first: annotations[3], id 4"),
        ([4, 5, 10, -2], "1 box of no width or height left out"),
        ([70, 5, 10, 10], "1 box outside their image left out"),
        ([-20, 5, 10, 10], "1 box outside their image left out"),
    ],
)
def test_a_box_that_holds_nothing_is_left_out(case: Case, train: bool, box, note: str) -> None:
    case.train = train
    case.annotations[3]["bbox"] = box
    found = case.check()
    assert found.boxes == 11
    assert any(note in text for text in found.notes)
    assert [a["id"] for a in found.content["annotations"]] == [1, 2, 3, *range(5, 13)]


def test_a_box_thinner_than_a_pixel_is_scored_and_not_trained_on(case: Case) -> None:
    """As mmdet does not."""
    case.annotations[3]["bbox"] = [4, 5, 0.9, 12]
    assert case.check().boxes == 12
    case.train = True
    assert case.check().boxes == 11


def test_a_box_beyond_the_edge_is_cut_there_and_a_rounded_one_is_left(case: Case) -> None:
    case.annotations[0] |= dict(bbox=[-6, 5, 20, 12], area=240)
    case.annotations[1] |= dict(bbox=[50, 40, 30, 30], area=100)  # of an object, not of the box
    case.annotations[2] |= dict(bbox=[44, 5, 20.6, 12], area=240)
    expected = copy.deepcopy(case.annotations)
    expected[0] |= dict(bbox=[0, 5, 14, 12], area=168)
    expected[1] |= dict(bbox=[50, 40, 14, 8], area=100)
    content = case.passes("2 boxes reaching beyond their image cut")
    assert content["annotations"] == expected


@pytest.mark.parametrize("value", [0, -1, NAN, "big", None, True, INFINITY])
def test_an_area_that_is_none_is_that_of_the_box(case: Case, value: Any) -> None:
    expected = copy.deepcopy(case.content)
    each(case.annotations, area=value)
    assert case.passes("12 annotations without a usable area") == expected


def test_areas_that_are_all_fractions_are_those_of_the_boxes(case: Case) -> None:
    expected = copy.deepcopy(case.content)
    for annotation in case.annotations:
        annotation["area"] /= 64 * 48
    assert case.passes("12 annotations without a usable area") == expected
    case.content = copy.deepcopy(expected)
    case.annotations[0]["area"] = 0.5  # a thin object may have that
    assert case.passes()["annotations"][0]["area"] == 0.5


@pytest.mark.parametrize("value", ["0", 2, [1]])
def test_a_crowd_mark_that_is_none_is_refused(case: Case, value: Any) -> None:
    case.annotations[3]["iscrowd"] = value
    case.refused("1 annotation whose iscrowd is neither 0 nor 1", "annotations[3], id 4")


def test_crowds_are_kept_and_counted_apart(case: Case) -> None:
    case.annotations[0]["iscrowd"] = True
    found = case.check()
    assert (found.boxes, found.crowds) == (11, 1)
    assert found.content["annotations"][0]["iscrowd"] == 1


def test_what_is_marked_ignore_is_not_trained_on_and_scored_with_a_note(case: Case) -> None:
    case.annotations[0]["ignore"] = 1
    assert any("scored like any other" in note for note in case.check().notes)
    case.train = True
    found = case.check()
    assert found.boxes == 11
    assert any("1 annotation marked ignore left out" in note for note in found.notes)


def test_images_that_the_config_filters_out_do_not_count(case: Case) -> None:
    case.train = True
    Image.new("RGB", (20, 48)).save(case.root / "images" / "6.png")
    case.images[5] |= dict(width=20)
    found = case.check(min_size=32)
    assert (found.boxes, len(found.content["annotations"])) == (10, 12)
    assert any("1 image less than 32 px" in note for note in found.notes)
    case.refused("nothing to train on", min_size=100)


# Sizes


def test_a_wrong_size_is_corrected_and_boxes_are_judged_by_the_file(case: Case) -> None:
    expected = copy.deepcopy(case.content)
    case.images[0] |= dict(width=48, height=64)
    case.images[1] |= dict(width=0, height="48")
    assert case.passes("1 image with another size", "48 x 64", "64 x 48") == expected


def test_boxes_drawn_on_a_larger_image_are_refused(case: Case) -> None:
    case.images[0] |= dict(width=128, height=96)
    case.annotations[1]["bbox"] = [100, 50, 20, 20]
    case.refused("64 x 48", "128 x 96", "annotations[1], id 2", "resize the boxes")


def test_images_that_were_all_resized_are_refused(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablations.data.coco.images.RESIZED_FROM", 6)
    each(case.images, width=32, height=24)
    case.refused("all 6 images", "one factor", "resize their boxes")
    case.images[0] |= dict(width=64)
    case.passes("6 images with another size")


def turn(path: Path, orientation: int) -> np.ndarray:
    """Give a file an EXIF orientation; returns its pixels as OpenCV decodes them."""
    import cv2

    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif)
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif", "bmp"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_sizes_are_those_of_the_decoder(tmp_path: Path, suffix: str, orientation: int) -> None:
    from ablations.data.coco.headers import image_size

    path = tmp_path / f"image.{suffix}"
    if f".{suffix}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow writes no {suffix}")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    decoded = turn(path, orientation)
    if decoded is None:
        pytest.skip(f"this OpenCV reads no {suffix}")
    height, width = decoded.shape[:2]
    found = image_size(str(path))
    assert (found.width, found.height) == (width, height)
    assert found.turned == ((width, height) == (40, 64))


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_a_jpeg_with_a_thumbnail_and_other_segments_has_its_own_size(
    tmp_path: Path, byte_order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    from ablations.data.coco.headers import image_size

    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F], exif[0x0112], exif[0x0131] = "maker" * 50, 6, "software"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    path = tmp_path / "image.jpg"
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 1_000_000)  # for Pillow before 13
    Image.fromarray(pixels).save(
        path, exif=exif, comment=b"x" * 60_000, icc_profile=b"y" * 200_000, progressive=True
    )
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    found = image_size(str(path))
    assert (found.height, found.width) == decoded.shape[:2] == (64, 40)


def test_an_image_turned_by_exif_has_the_size_it_is_decoded_to(case: Case) -> None:
    path = case.root / "images" / "1.png"
    assert turn(path, 6).shape[:2] == (64, 48)
    case.images[0] |= dict(width=48, height=64)
    assert case.passes() == case.content
    del case.images[0]["width"], case.images[0]["height"]
    content = case.passes("1 image without width and height")
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (48, 64)
    case.images[0] |= dict(width=64, height=48)
    case.refused("1 image turned by EXIF", "images[0], id 1", "64 x 48", "48 x 64")


# Nothing there


@pytest.mark.parametrize(
    ("train", "why"), [(True, "nothing to train on"), (False, "AP is undefin")]
)
def test_a_split_without_an_object_is_refused(case: Case, train: bool, why: str) -> None:
    case.train = train
    whole = copy.deepcopy(case.content)
    each(case.annotations, iscrowd=1)
    case.refused("all its annotations are crowds", why)
    each(case.annotations, iscrowd=0, bbox=[1, 1, 0, 0])
    case.refused("none of its 12 annotations can be used (12 boxes of no width", why)
    each(case.annotations, image_id=77)
    case.refused("none of its 12 annotations", "12 annotations of images that are not listed", why)
    case.content = whole | dict(annotations=[])
    case.refused("it has no annotations", why)
    case.content = whole | dict(annotations=[], images=[])
    case.refused("it lists no images")


def test_a_class_without_boxes_is_told(case: Case) -> None:
    for annotation in case.annotations:
        annotation["category_id"] = 1
    case.passes("no boxes of 'dog'", "left out of AP")
    case.train = True
    case.passes("no boxes of 'dog'", "cannot be learned")


# The file itself


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_any_unicode_is_read(case: Case, encoding: str) -> None:
    expected = copy.deepcopy(case.content)
    case.content["categories"][0]["name"] = "Käfer"
    expected["categories"][0]["name"] = "Käfer"
    case.text = lambda text: json.dumps(json.loads(text), ensure_ascii=False).encode(encoding)
    assert case.passes("UTF-8", classes=("Käfer", "dog")) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lambda text: b"", ("is empty",)),
        (lambda text: text.encode()[:-400], ("cut off", "line 1, column")),
        (lambda text: text.encode()[:-1], ("cut off",)),
        (lambda text: text.encode() + b"}", ("is not JSON", "Extra data")),
        (lambda text: b"hello", ("is not JSON",)),
        (lambda text: text.replace("cat", "K\xe4fer").encode("latin-1"), ("not UTF-8 text",)),
        (lambda text: b"\x1f\x8b" + text.encode(), ("compressed", "unpack")),
        (lambda text: b"[]", ("not in COCO format",)),
        (lambda text: b"null", ("not in COCO format",)),
        (lambda text: b'{"images": []}', ("it has no 'annotations, categories'",)),
        (
            lambda text: text.replace('"annotations": [', '"annotations": [3, ', 1).encode(),
            ("1 of 13 entries of annotations", "annotations[0], a int"),
        ),
        (
            lambda text: json.dumps({**json.loads(text), "images": {}}).encode(),
            ("images is a dict, not a list",),
        ),
    ],
)
def test_a_file_that_is_no_coco_is_refused(case: Case, text: Any, words: tuple[str, ...]) -> None:
    case.text = text
    case.refused(*words)


def test_a_file_that_is_not_there_is_refused(case: Case) -> None:
    found = case.check()
    case.file.unlink()
    from ablations.data.coco import check

    assert "does not exist" in str(check(found.split).error)


# Image files


def test_missing_and_empty_images_are_refused_with_their_numbers(case: Case) -> None:
    (case.root / "images" / "2.png").unlink()
    (case.root / "images" / "3.png").unlink()
    (case.root / "images" / "4.png").write_bytes(b"")
    case.refused(
        "2 image files missing",
        "images[1], id 2",
        f"{case.root}/images/2.png does not exist",
        "1 image file empty",
        "images[3], id 4",
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tiff"])
def test_a_truncated_image_is_refused(case: Case, suffix: str) -> None:
    path = case.root / "images" / f"2.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    case.images[1]["file_name"] = path.name
    assert case.check().error is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    case.refused("1 image file damaged", "images[1], id 2", str(path))
    if suffix in ("png", "jpg", "bmp"):
        assert case.check(decode=False).error is None  # its header is whole


def test_a_file_that_is_no_image_is_refused(case: Case) -> None:
    (case.root / "images" / "2.png").write_text("<html>404</html>")
    case.refused("1 image file damaged", "images[1], id 2")


def test_file_names_with_backslashes_are_found(case: Case) -> None:
    (case.root / "images" / "a").mkdir()
    (case.root / "images" / "1.png").rename(case.root / "images" / "a" / "1.png")
    case.images[0]["file_name"] = "a\\1.png"
    content = case.passes("1 file name with backslashes")
    assert content["images"][0]["file_name"] == "a/1.png"


def test_an_image_is_looked_at_again_only_when_it_has_changed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    for name in ("image_size", "_damage"):
        original = getattr(files, name)
        spy = lambda path, name=name, original=original: (looked.append(name), original(path))[1]  # noqa: E731
        monkeypatch.setattr(files, name, spy)
    case.check()
    assert sorted(looked) == ["_damage"] * 6 + ["image_size"] * 6
    looked.clear()
    case.check()
    assert looked == []
    path = case.root / "images" / "2.png"
    os.utime(path, ns=(0, 0))
    case.check()
    assert sorted(looked) == ["_damage", "image_size"]


def test_more_images_than_a_minute_decodes_are_sampled_unless_all_are_asked_for(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_PROBE", 2)
    monkeypatch.setattr(files, "SAMPLE", 4)
    monkeypatch.setattr(files, "DECODING_S", 0.0)
    assert any("4 of 6 images were decoded" in note for note in case.check().notes)
    assert not any("decoded" in note for note in case.check(decode=True).notes)
    assert not any("decoded" in note for note in case.check().notes)  # all are known to be good


def test_a_cache_that_cannot_be_written_or_read_does_no_harm(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case.root / "cache").write_text("a file in the way")
    assert case.check().error is None
    (case.root / "cache").unlink()
    case.check()
    (cache,) = (case.root / "cache" / "loss-ablations" / "images").iterdir()
    for text in ("{", "[]", '{"x": 1}'):
        cache.write_text(text)
        assert case.check().error is None
