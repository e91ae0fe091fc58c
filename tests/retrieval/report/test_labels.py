from itertools import combinations

from retrieval.report.labels import POINT, place_labels

AREA = (0, 0, 400, 300)


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_to_the_right_where_there_is_room_else_to_the_left():
    placed = place_labels([(100, 100), (390, 200)], ["one", "two"], [], AREA)
    assert (placed[0].anchor, placed[0].x) == ("start", 108) and (placed[1].anchor, placed[1].x) == ("end", 382)


def test_crowded_points_keep_the_important_labels_and_drop_the_others():
    points = [(200 + 4 * at, 150 + at) for at in range(30)]
    placed = place_labels(points, ["a longer label"] * 30, [25, 29], AREA)
    assert {25, 29} <= set(placed) and len(placed) < 30
    boxes = [label.box for label in placed.values()]
    assert not any(overlap(*pair) for pair in combinations(boxes, 2))
    squares = [(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in points]
    assert not any(overlap(box, square) for box in boxes for square in squares)
    assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= 400 and box[3] <= 300 for box in boxes)


def test_an_important_label_goes_away_from_its_crowd():
    crowd = [(200 + dx, 150 + dy) for dx in range(-40, 41, 8) for dy in range(-16, 17, 8)]
    centre = crowd.index((200, 150))
    assert place_labels(crowd, ["name"] * len(crowd), [centre], AREA)[centre].away
    assert centre not in place_labels([*crowd], ["name"] * len(crowd), [], AREA)


def test_a_text_wider_than_the_chart_is_left_out():
    assert place_labels([(200, 150)], ["x" * 100], [0], AREA) == {}


def test_labels_keep_clear_of_lines():
    line = [(20, 150), (380, 150)]
    beside = place_labels([(200, 150)], ["name"], [0], AREA, [line])[0]
    assert beside.box[3] < 150 or beside.box[1] > 150
    assert place_labels([(200, 150)], ["name"], [0], AREA)[0].y == 154  # where there is none
