"""What devices send each other, counted in programs that were written by hand."""

import pytest
from conftest import numpy_alone

from keras_vit_scale.planning.collectives import Collective, collectives

pytestmark = numpy_alone

#: From 2 to below 12 by threes are four rounds: 2, 5, 8, 11.
PROGRAM = """HloModule step, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (state: (s32[], bf16[7,5])) -> (s32[], bf16[7,5]) {
  %state = (s32[], bf16[7,5]) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %three = s32[] constant(3)
  %next = s32[] add(%i, %three)
  %x = bf16[7,5] get-tuple-element(%state), index=1
  %moved = bf16[7,5]{1,0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}
  ROOT %out = (s32[], bf16[7,5]) tuple(%next, %moved)
}

%condition (state: (s32[], bf16[7,5])) -> pred[] {
  %tested = (s32[], bf16[7,5]) parameter(0)
  %j = s32[] get-tuple-element(%tested), index=0
  %end = s32[] constant(12)
  ROOT %less = pred[] compare(%j, %end), direction=LT
}

ENTRY %main (x: bf16[7,5], g: f32[8,3]) -> f32[2,3] {
  %whole = bf16[7,5] parameter(0)
  %two = s32[] constant(2)
  %begin = (s32[], bf16[7,5]) tuple(%two, %whole)
  %loop = (s32[], bf16[7,5]) while(%begin), condition=%condition, body=%body
  %g = f32[8,3] parameter(1)
  %all = f32[8,3]{1,0} all-reduce(%g), replica_groups={}, to_apply=%add
  %started = (f32[8,3], f32[16,3]) all-gather-start(%all), replica_groups=[4,2]<=[8], dimensions={0}
  %done = f32[16,3]{1,0} all-gather-done(%started)
  ROOT %own = f32[2,3]{1,0} reduce-scatter(%all), replica_groups={{0,1,2,3},{4,5,6,7}}
}
"""


def test_each_exchange_is_counted_with_its_size_and_how_often_it_is_done():
    found = collectives(PROGRAM)
    assert found == [
        # Sent: 4 x 70; 2 x 7/8 of 96; 1/2 of 192; 3/4 of 96.
        Collective("collective-permute", 2, 7 * 5 * 2, 4, in_loop=True),
        Collective("all-reduce", 8, 8 * 3 * 4, 1, in_loop=False),
        Collective("all-gather", 2, 16 * 3 * 4, 1, in_loop=False),
        Collective("reduce-scatter", 4, 8 * 3 * 4, 1, in_loop=False),
    ]
    assert [c.sent for c in found] == [280, 168, 96, 72]


def test_a_length_that_the_compiler_noted_goes_before_the_counter():
    line = "condition=%condition, body=%body\n"
    noted = line[:-1] + ', backend_config={"known_trip_count":{"n":"9"}}\n'
    assert collectives(PROGRAM.replace(line, noted))[0].times == 9


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("direction=LT", "direction=NE", "how often it runs is not known"),
        ("%three = s32[] constant(3)", "%three = s32[] negate(%i)", "how often it runs is not"),
        ("ENTRY ", "", "with an ENTRY computation"),
    ],
)
def test_what_cannot_be_counted_is_refused(old, new, message):
    with pytest.raises(ValueError, match=message):
        collectives(PROGRAM.replace(old, new))
