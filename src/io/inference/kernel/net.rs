//! A net of the family, run: the picture becomes bytes once, the stem reads its windows in place, and
//! every row goes through norm, bytes, product and back. All buffers are made at load.
//!
//! What a stranger gets wrong: attention is a product of bytes too. Keys and values are packed anew for
//! every head, as if they were weights; shares (0 to 255) need no zero of their own.

use super::layers::{Block, Convolution, HEAD, Layers, Pooling};
use super::packed::{LEVELS, Packed};
use super::product::{Bounded, Meaning, Replace, Sum, Target, product};
use super::rows::{self, NOWHERE, fold_bounds};
use super::tiles::{GROUP, LANES, Rows, Tile, Work};

/// Rows whose scores stand in memory at a time.
const SCORED: usize = 48;

/// Sizes below this count as nothing, so that no step divides to infinity.
const LEAST: f32 = f32::MIN_POSITIVE * LEVELS;

/// A map of bytes with its border: height and width without it.
#[derive(Clone, Copy, Debug)]
struct Map {
    height: usize,
    width: usize,
}

/// A net ready to run, with its buffers.
pub struct Net {
    layers: Layers,
    maps: Vec<Map>,
    offsets: Vec<Vec<u32>>,
    tokens: usize,
    room: Room,
}

/// The buffers.
#[derive(Default)]
struct Room {
    map: Vec<u8>,
    /// A line of the map with whole lanes.
    pixels: Vec<u8>,
    reals: Vec<f32>,
    stream: Vec<f32>,
    bytes: Vec<u8>,
    meanings: Vec<Meaning>,
    mixed: Vec<f32>,
    heard: Vec<f32>,
    scores: Vec<f32>,
    line: Vec<f32>,
    integers: Vec<u8>,
    keys: Packed,
    values: Packed,
    shares: Vec<u8>,
    nothing: Vec<f32>,
    narrow: Vec<u32>,
    full: Vec<u32>,
    wide: Vec<u32>,
    shared: Vec<u32>,
}

/// Offsets of rows that follow each other.
fn apart(count: usize, stride: usize) -> Vec<u32> {
    (0..count).map(|row| (row * stride) as u32).collect()
}

impl Net {
    /// Buffers for pictures of this size; nothing where the layers do not fit it.
    pub fn new(layers: Layers, (channels, height, width): (usize, usize, usize)) -> Option<Net> {
        let wide = layers.blocks.first()?.up.bias.len();
        let even = layers.blocks.iter().all(|block| block.up.bias.len() == wide);
        if layers.stem.first()?.real_channels != channels || !even {
            return None;
        }
        let (mut maps, mut offsets) = (vec![Map { height, width }], Vec::new());
        for layer in &layers.stem {
            let Map { height, width } = *maps.last()?;
            let side = |size: usize| {
                let padded = size + 2 * layer.pad;
                Some((padded.checked_sub(layer.window)?) / layer.stride + 1)
            };
            let after = Map { height: side(height)?, width: side(width)? };
            let across = (width + 2 * layer.pad) * layer.channels;
            let at = |row: usize, column: usize| {
                u32::try_from(row * layer.stride * across + column * layer.stride * layer.channels)
            };
            let all =
                (0..after.height).flat_map(|row| (0..after.width).map(move |column| (row, column)));
            offsets
                .push(all.map(|(row, column)| at(row, column).ok()).collect::<Option<Vec<u32>>>()?);
            maps.push(after);
        }
        let seen = maps.last()?.height * maps.last()?.width;
        let tokens = seen + usize::from(layers.class.is_some());
        let position = layers.position.len();
        if position != 0 && position != tokens * layers.width {
            return None;
        }
        let room = Room::of(&layers, &maps, tokens);
        Some(Net { layers, maps, offsets, tokens, room })
    }

    /// The work of judging one picture: `[channels][height][width]` of reals.
    pub fn judge<'a>(&'a mut self, picture: &'a [f32]) -> Judge<'a> {
        Judge { net: self, picture }
    }
}

impl Room {
    fn of(layers: &Layers, maps: &[Map], tokens: usize) -> Room {
        let mut room = Room::default();
        for (layer, pair) in layers.stem.iter().zip(maps.windows(2)) {
            let padded = |side: usize| side + 2 * layer.pad;
            let map = padded(pair[0].height) * padded(pair[0].width) * layer.channels;
            // The last window of a padded map may read up to its end, never beyond.
            room.map.resize(room.map.len().max(map), 0);
            let out = pair[1].height * pair[1].width * layer.linear.bias.len();
            room.reals.resize(room.reals.len().max(out), 0.0);
            let entering = pair[0].width * layer.channels;
            let line = entering.max(pair[1].width * layer.linear.bias.len());
            room.pixels.resize(room.pixels.len().max(line), 0);
        }
        let width = layers.width;
        let wide = layers.blocks.iter().map(|block| block.up.bias.len()).max().unwrap_or(width);
        room.stream = vec![0.0; tokens * width];
        room.bytes = vec![0; tokens * wide.max(width)];
        room.meanings = vec![Meaning { step: 1.0, zero: 0.0 }; tokens];
        room.mixed = vec![0.0; tokens * wide.max(3 * width)];
        room.heard = vec![0.0; tokens * width];
        let padded = tokens.next_multiple_of(LANES);
        room.scores = vec![0.0; SCORED * padded];
        room.line = vec![0.0; width];
        room.integers = vec![0; HEAD];
        room.shares = vec![0; SCORED * padded];
        room.nothing = vec![0.0; padded.max(HEAD)];
        room.narrow = apart(tokens, HEAD);
        room.full = apart(tokens, width);
        room.wide = apart(tokens, wide);
        room.shared = apart(SCORED, padded);
        room
    }
}

/// One picture through the net.
pub struct Judge<'a> {
    net: &'a mut Net,
    picture: &'a [f32],
}

impl Work for Judge<'_> {
    type Out = Vec<f32>;

    #[inline(always)]
    fn work<T: Tile>(self, tile: T) -> Vec<f32> {
        let Net { layers, maps, offsets, tokens, room } = self.net;
        stem(tile, (layers, maps, offsets), self.picture, room);
        for block in &layers.blocks {
            attend(tile, block, (*tokens, layers.width), room);
            widen(tile, block, (*tokens, layers.width), room);
        }
        finish(tile, layers, room)
    }
}

/// Convolutions, then the tokens into the stream.
#[inline(always)]
fn stem<T: Tile>(
    tile: T,
    (layers, maps, offsets): (&Layers, &[Map], &[Vec<u32>]),
    picture: &[f32],
    room: &mut Room,
) {
    let mut meaning =
        enter(tile, &layers.stem[0], maps[0], picture, (&mut room.pixels, &mut room.map));
    for (i, layer) in layers.stem.iter().enumerate() {
        let out = layer.linear.bias.len();
        let after = maps[i + 1];
        let length = layer.window * layer.channels;
        let stride = (maps[i].width + 2 * layer.pad) * layer.channels;
        let rows = Rows::new(&room.map, &offsets[i], (layer.window, stride, length));
        let target = Target { out: &mut room.reals, stride: out, bias: &layer.linear.bias };
        let mut joint = Bounded {
            floor: tile.splat(if layer.rectify { 0.0 } else { f32::NEG_INFINITY }),
            low: tile.splat(f32::INFINITY),
            high: tile.splat(f32::NEG_INFINITY),
        };
        product(tile, (&rows, &[meaning]), &layer.linear.weights, target, &mut joint);
        let (low, high) = fold_bounds(joint.low, joint.high);
        if let Some(next) = layers.stem.get(i + 1) {
            meaning = Meaning::between(low, high);
            pass_on(
                tile,
                (next, after),
                (&room.reals, out),
                meaning,
                (&mut room.pixels, &mut room.map),
            );
        }
    }
    let mut stream = room.stream.as_mut_slice();
    if let Some(class) = &layers.class {
        let (first, rest) = stream.split_at_mut(layers.width);
        first.copy_from_slice(class);
        stream = rest;
    }
    let count = stream.len();
    stream.copy_from_slice(&room.reals[..count]);
    for (value, position) in room.stream.iter_mut().zip(&layers.position) {
        *value += position;
    }
}

/// The picture as bytes, its channels side by side, with a border that means nothing.
#[inline(always)]
fn enter<T: Tile>(
    tile: T,
    layer: &Convolution,
    map: Map,
    picture: &[f32],
    (full, out): (&mut [u8], &mut [u8]),
) -> Meaning {
    let (low, high) = rows::bounds(tile, picture);
    let meaning = Meaning::between(low, high);
    let plane = map.height * map.width;
    let across = (map.width + 2 * layer.pad) * layer.channels;
    out[..across * (map.height + 2 * layer.pad)].fill(meaning.zero as u8);
    for row in 0..map.height {
        for (channel, full) in
            full.chunks_exact_mut(map.width).enumerate().take(layer.real_channels)
        {
            let start = channel * plane + row * map.width;
            rows::bytes(tile, &picture[start..start + map.width], meaning, full);
        }
        let start = (row + layer.pad) * across + layer.pad * layer.channels;
        let pixels = &mut out[start..start + map.width * layer.channels];
        if layer.channels == GROUP {
            let parts: [&[u8]; GROUP] = std::array::from_fn(|channel| {
                &full[channel * map.width..(channel + 1) * map.width]
            });
            let parts = parts[0].iter().zip(parts[1]).zip(parts[2]).zip(parts[3]);
            for (pixel, (((a, b), c), d)) in pixels.as_chunks_mut().0.iter_mut().zip(parts) {
                *pixel = [*a, *b, *c, *d];
            }
            continue;
        }
        for (channel, part) in full.chunks_exact(map.width).enumerate().take(layer.real_channels) {
            let places = pixels.iter_mut().skip(channel).step_by(layer.channels);
            places.zip(part).for_each(|(place, byte)| *place = *byte);
        }
    }
    meaning
}

/// A map of reals as bytes with the border that the next layer wants.
#[inline(always)]
fn pass_on<T: Tile>(
    tile: T,
    (next, map): (&Convolution, Map),
    (reals, stride): (&[f32], usize),
    meaning: Meaning,
    (full, out): (&mut [u8], &mut [u8]),
) {
    let across = (map.width + 2 * next.pad) * next.channels;
    out[..across * (map.height + 2 * next.pad)].fill(meaning.zero as u8);
    let lines = reals.chunks_exact(map.width * stride).take(map.height);
    for (row, line) in lines.enumerate() {
        let start = (row + next.pad) * across + next.pad * next.channels;
        let pixels = &mut out[start..start + map.width * next.channels];
        if next.channels == stride {
            rows::bytes(tile, line, meaning, pixels);
            continue;
        }
        let full = &mut full[..line.len()];
        rows::bytes(tile, line, meaning, full);
        for (pixel, full) in pixels.chunks_exact_mut(next.channels).zip(full.chunks_exact(stride)) {
            let groups = pixel.as_chunks_mut::<GROUP>().0.iter_mut();
            groups.zip(full.as_chunks().0).for_each(|(group, full)| *group = *full);
        }
    }
}

/// `stream += project(attention(norm(stream)))`.
#[inline(always)]
fn attend<T: Tile>(tile: T, block: &Block, (tokens, width): (usize, usize), room: &mut Room) {
    normalise(tile, &block.first_norm, width, room);
    let rows = Rows::new(&room.bytes, &room.full, (1, 0, width));
    let target = Target { out: &mut room.mixed, stride: 3 * width, bias: &block.mix.bias };
    product(tile, (&rows, &room.meanings), &block.mix.weights, target, &mut Replace);
    for head in 0..width / HEAD {
        listen(tile, (block.sharpness, head), (tokens, width), room);
    }
    let lines = room.heard.chunks_exact(width).zip(room.bytes.chunks_exact_mut(width));
    for ((line, bytes), meaning) in lines.zip(&mut room.meanings) {
        *meaning = rows::quantise(tile, line, bytes);
    }
    let rows = Rows::new(&room.bytes, &room.full, (1, 0, width));
    let target = Target { out: &mut room.stream, stride: width, bias: &block.project.bias };
    product(tile, (&rows, &room.meanings), &block.project.weights, target, &mut Sum);
}

/// The rows of the stream through a norm, as bytes.
#[inline(always)]
fn normalise<T: Tile>(tile: T, norm: &rows::Norm, width: usize, room: &mut Room) {
    let Room { stream, bytes, meanings, line, .. } = room;
    let line = &mut line[..width];
    let all = stream.chunks_exact(width).zip(bytes.chunks_exact_mut(width)).zip(meanings);
    for ((row, bytes), meaning) in all {
        norm.apply(tile, row, line);
        *meaning = rows::quantise(tile, line, bytes);
    }
}

/// One head: who listens to whom, and what is heard.
#[inline(always)]
fn listen<T: Tile>(
    tile: T,
    (sharpness, head): (f32, usize),
    (tokens, width): (usize, usize),
    room: &mut Room,
) {
    let at = |row: usize, part: usize| (row * 3 + part) * width + head * HEAD;
    let lines = room.bytes.chunks_exact_mut(HEAD).zip(&mut room.meanings);
    for (row, (bytes, meaning)) in lines.enumerate().take(tokens) {
        *meaning = rows::quantise(tile, &room.mixed[at(row, 0)..at(row, 0) + HEAD], bytes);
        meaning.step *= sharpness;
    }
    room.keys.clear(HEAD, tokens);
    for row in 0..tokens {
        let key = &room.mixed[at(row, 1)..at(row, 1) + HEAD];
        let (low, high) = rows::bounds(tile, key);
        let most = if high > -low { high } else { -low };
        let most = if most > LEAST { most } else { LEAST };
        room.keys.scales[row] = most / LEVELS;
        rows::signed(tile, key, &[LEVELS / most; HEAD], &mut room.integers);
        for (group, four) in room.integers.as_chunks::<GROUP>().0.iter().enumerate() {
            room.keys.put(group * GROUP, row, *four);
        }
    }
    room.keys.sum();
    pack_values(tile, &mut room.values, &room.mixed, (at(0, 2), 3 * width, tokens));
    let padded = tokens.next_multiple_of(LANES);
    let mut meanings = [Meaning { step: 1.0, zero: 0.0 }; SCORED];
    for first in (0..tokens).step_by(SCORED) {
        let count = SCORED.min(tokens - first);
        let queries = Rows::new(&room.bytes, &room.narrow[first..first + count], (1, 0, HEAD));
        let target = Target { out: &mut room.scores, stride: padded, bias: &room.nothing };
        let meanings_here = &room.meanings[first..first + count];
        product(tile, (&queries, meanings_here), &room.keys, target, &mut Replace);
        let lines = room.scores.chunks_exact_mut(padded).zip(room.shares.chunks_exact_mut(padded));
        for ((scores, shares), meaning) in lines.zip(&mut meanings).take(count) {
            scores[tokens..].fill(NOWHERE);
            meaning.step = rows::shares(tile, scores, shares);
        }
        let shares = Rows::new(&room.shares, &room.shared[..count], (1, 0, room.values.depth));
        let out = &mut room.heard[first * width + head * HEAD..];
        let target = Target { out, stride: width, bias: &room.nothing };
        product(tile, (&shares, &meanings[..count]), &room.values, target, &mut Replace);
    }
}

/// The values of a head as weights: one scale for each channel, four rows side by side.
#[inline(always)]
fn pack_values<T: Tile>(
    tile: T,
    values: &mut Packed,
    mixed: &[f32],
    (start, stride, tokens): (usize, usize, usize),
) {
    let row = |token: usize| &mixed[start + token * stride..start + token * stride + HEAD];
    let mut most = [LEAST; HEAD];
    for token in 0..tokens {
        rows::sizes(tile, row(token), &mut most);
    }
    values.clear(tokens, HEAD);
    for (scale, most) in values.scales.iter_mut().zip(most) {
        *scale = most / LEVELS;
    }
    let turns = most.map(|most| LEVELS / most);
    let mut four = [[0; HEAD]; GROUP];
    for first in (0..tokens).step_by(GROUP) {
        for (i, integers) in four.iter_mut().enumerate() {
            if first + i < tokens {
                rows::signed(tile, row(first + i), &turns, integers);
            } else {
                integers.fill(0);
            }
        }
        let [a, b, c, d] = &four;
        for (column, (((a, b), c), d)) in a.iter().zip(b).zip(c).zip(d).enumerate() {
            values.put(first, column, [*a, *b, *c, *d]);
        }
    }
    values.sum();
}

/// `stream += down(gelu(up(norm(stream))))`.
#[inline(always)]
fn widen<T: Tile>(tile: T, block: &Block, (tokens, width): (usize, usize), room: &mut Room) {
    normalise(tile, &block.second_norm, width, room);
    let wide = block.up.bias.len();
    let rows = Rows::new(&room.bytes, &room.full, (1, 0, width));
    let target = Target { out: &mut room.mixed, stride: wide, bias: &block.up.bias };
    product(tile, (&rows, &room.meanings), &block.up.weights, target, &mut Replace);
    let lines = room.mixed.chunks_exact_mut(wide).zip(room.bytes.chunks_exact_mut(wide));
    for ((line, bytes), meaning) in lines.zip(&mut room.meanings).take(tokens) {
        rows::gelu(tile, line);
        *meaning = rows::quantise(tile, line, bytes);
    }
    let rows = Rows::new(&room.bytes, &room.wide, (1, 0, wide));
    let target = Target { out: &mut room.stream, stride: width, bias: &block.down.bias };
    product(tile, (&rows, &room.meanings), &block.down.weights, target, &mut Sum);
}

/// Norm, pooling and the head, all in real numbers.
#[inline(always)]
fn finish<T: Tile>(tile: T, layers: &Layers, room: &mut Room) -> Vec<f32> {
    let width = layers.width;
    let mut pooled = vec![0.0; width];
    let count = match layers.pooling {
        Pooling::Mean => room.stream.len() / width,
        Pooling::First => 1,
    };
    for row in room.stream.chunks_exact(width).take(count) {
        layers.norm.apply(tile, row, &mut room.line[..width]);
        for (pooled, value) in pooled.iter_mut().zip(&room.line) {
            *pooled += value;
        }
    }
    let mut out = layers.head_bias.clone();
    for (value, weights) in pooled.iter().zip(layers.head.chunks_exact(out.len())) {
        for (out, weight) in out.iter_mut().zip(weights) {
            *out += value / count as f32 * weight;
        }
    }
    out
}
