//! From acts to layers: the grammar of the one family of nets (stem of convolutions, tokens, pre-norm
//! attention blocks with heads of 64, pooling, head), with weights already packed.
//!
//! What a stranger gets wrong: a net that does not follow the grammar is not broken. It is not of this
//! family, and the general runtime takes it.

use super::acts::{Act, Constant};
use super::packed::Packed;
use super::rows::Norm;
use super::tiles::{GROUP, LANES};

/// Width of an attention head.
pub const HEAD: usize = 64;
/// Larger nets than this are not taken: weights are packed in memory at load.
const MOST_WIDTH: usize = 4096;

/// A packed matrix with its bias, which has whole lanes.
#[derive(Debug)]
pub struct Linear {
    pub weights: Packed,
    pub bias: Vec<f32>,
}

/// A convolution with square window, read in place from a padded map of `channels` a pixel.
#[derive(Debug)]
pub struct Convolution {
    pub linear: Linear,
    /// Channels of the map that it reads, a multiple of four.
    pub channels: usize,
    /// Channels that mean something.
    pub real_channels: usize,
    pub window: usize,
    pub stride: usize,
    pub pad: usize,
    pub rectify: bool,
}

/// One attention block.
#[derive(Debug)]
pub struct Block {
    pub first_norm: Norm,
    /// Query, key and value side by side.
    pub mix: Linear,
    /// Factor of the scores, in powers of two.
    pub sharpness: f32,
    pub project: Linear,
    pub second_norm: Norm,
    pub up: Linear,
    pub down: Linear,
}

/// How rows become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    First,
}

/// A whole net.
#[derive(Debug)]
pub struct Layers {
    pub stem: Vec<Convolution>,
    /// A row in front of the tokens.
    pub class: Option<Vec<f32>>,
    pub position: Vec<f32>,
    pub blocks: Vec<Block>,
    pub norm: Norm,
    pub pooling: Pooling,
    /// `[width, outputs]`.
    pub head: Vec<f32>,
    pub head_bias: Vec<f32>,
    pub width: usize,
}

/// Where acts leave the family.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "step {step}: {wanted} was expected: the net is not of the family that the int8 kernel covers"
)]
pub struct NotOfTheFamily {
    /// Which act, from one.
    pub step: usize,
    /// What the family has there.
    pub wanted: &'static str,
}

/// Reads the acts.
///
/// # Errors
/// At the first act that the family does not have there, or sizes that do not fit.
pub fn layers(acts: &[Act]) -> Result<Layers, NotOfTheFamily> {
    let mut reader = Reader { acts, at: 0 };
    let mut stem = Vec::new();
    while let Some(convolution) = reader.convolution(stem.last())? {
        stem.push(convolution);
    }
    let width = stem.last().map_or(0, |last: &Convolution| last.linear.weights.columns);
    reader.demand(
        width > 0 && width.is_multiple_of(HEAD),
        "a stem whose width is a multiple of 64",
    )?;
    let class = reader.take(|act| match act {
        Act::Prepend(row) if row.values.len() == width => Some(row.values.clone()),
        _ => None,
    });
    let position = reader.take(|act| match act {
        Act::AddConstant(all) if all.values.len().is_multiple_of(width) => Some(all.values.clone()),
        _ => None,
    });
    let mut blocks = Vec::new();
    let mut first_norm = reader.norm(width)?;
    while matches!(reader.acts.get(reader.at), Some(Act::Times(m)) if m.shape == [width, 3 * width])
    {
        blocks.push(reader.block(first_norm, width)?);
        first_norm = reader.norm(width)?;
    }
    reader.demand(!blocks.is_empty(), "an attention block")?;
    let pooling = reader.take(|act| match act {
        Act::Mean => Some(Pooling::Mean),
        Act::First => Some(Pooling::First),
        _ => None,
    });
    reader.demand(pooling.is_some(), "the mean of the rows or the first row")?;
    let head = reader.matrix(width, None, "the head's matrix")?;
    let outputs = head.shape[1];
    let head_bias = reader.bias(outputs);
    reader.demand(reader.at == acts.len(), "the end")?;
    Ok(Layers {
        stem,
        class,
        position: position.unwrap_or_default(),
        blocks,
        norm: first_norm,
        pooling: pooling.unwrap_or(Pooling::Mean),
        head: head.values,
        head_bias,
        width,
    })
}

struct Reader<'a> {
    acts: &'a [Act],
    at: usize,
}

impl Reader<'_> {
    fn demand(&self, holds: bool, wanted: &'static str) -> Result<(), NotOfTheFamily> {
        if holds { Ok(()) } else { Err(NotOfTheFamily { step: self.at + 1, wanted }) }
    }

    /// The next act, if it is of the wanted kind.
    fn take<T>(&mut self, wanted: impl Fn(&Act) -> Option<T>) -> Option<T> {
        let taken = wanted(self.acts.get(self.at)?)?;
        self.at += 1;
        Some(taken)
    }

    fn follow(&mut self, act: &Act, wanted: &'static str) -> Result<(), NotOfTheFamily> {
        let found = self.take(|next| (next == act).then_some(()));
        self.demand(found.is_some(), wanted)
    }

    /// The product of all factors that stand here.
    fn factors(&mut self) -> f32 {
        let scale = |act: &Act| if let Act::Scale(factor) = act { Some(*factor) } else { None };
        let mut product = 1.0;
        while let Some(factor) = self.take(scale) {
            product *= factor;
        }
        product
    }

    fn bias(&mut self, width: usize) -> Vec<f32> {
        let found = self.take(|act| match act {
            Act::AddConstant(bias) if bias.values.len() == width => Some(bias.values.clone()),
            Act::Shift(bias) if width == 1 => Some(vec![*bias]),
            _ => None,
        });
        found.unwrap_or_else(|| vec![0.0; width])
    }

    fn matrix(
        &mut self,
        rows: usize,
        columns: Option<usize>,
        wanted: &'static str,
    ) -> Result<Constant, NotOfTheFamily> {
        let found = self.take(|act| match act {
            Act::Times(matrix) => Some(matrix.clone()),
            _ => None,
        });
        let fits = |m: &Constant| {
            m.shape.len() == 2
                && m.shape[0] == rows
                && (1..=4 * MOST_WIDTH).contains(&m.shape[1])
                && columns.is_none_or(|columns| m.shape[1] == columns)
                && m.values.iter().all(|value| value.is_finite())
        };
        let error = NotOfTheFamily { step: self.at + 1, wanted };
        found.filter(fits).ok_or(error)
    }

    fn linear(
        &mut self,
        rows: usize,
        columns: Option<usize>,
        wanted: &'static str,
    ) -> Result<Linear, NotOfTheFamily> {
        let matrix = self.matrix(rows, columns, wanted)?;
        let columns = matrix.shape[1];
        let weights =
            Packed::of(rows, columns, |row, column| matrix.values[row * columns + column]);
        Ok(Linear { weights, bias: self.bias(columns) })
    }

    fn norm(&mut self, width: usize) -> Result<Norm, NotOfTheFamily> {
        let found = self.take(|act| match act {
            Act::Normalise { gain, bias, epsilon } if gain.values.len() == width => Some(Norm {
                gain: gain.values.clone(),
                bias: bias.as_ref().map_or_else(|| vec![0.0; width], |bias| bias.values.clone()),
                epsilon: *epsilon,
            }),
            _ => None,
        });
        found.ok_or(NotOfTheFamily { step: self.at + 1, wanted: "a layer norm of the width" })
    }

    fn convolution(
        &mut self,
        before: Option<&Convolution>,
    ) -> Result<Option<Convolution>, NotOfTheFamily> {
        let found = self.take(|act| match act {
            Act::Convolve { weights, bias, stride, pad } => {
                Some((weights.clone(), bias.clone(), *stride, *pad))
            }
            _ => None,
        });
        let Some((weights, bias, stride, pad)) = found else { return Ok(None) };
        let fits = match *weights.shape.as_slice() {
            [out, inside, height, width] => {
                let connected = before.is_none_or(|before| before.linear.weights.columns == inside);
                let sizes =
                    [out, inside, height, stride].iter().all(|s| (1..=MOST_WIDTH).contains(s));
                connected && sizes && height == width && pad < height
            }
            _ => false,
        };
        self.demand(fits, "a convolution with a square window")?;
        let (out, inside, window) = (weights.shape[0], weights.shape[1], weights.shape[2]);
        let channels = inside.next_multiple_of(GROUP);
        // The map has its channels side by side, so the window is read row by row, pixel by pixel.
        let value = |row: usize, column: usize| {
            let (place, channel) = (row / channels, row % channels);
            if channel >= inside {
                return 0.0;
            }
            weights.values[(column * inside + channel) * window * window + place]
        };
        let packed = Packed::of(window * window * channels, out, value);
        let bias = bias.map_or_else(|| vec![0.0; out], |bias| bias.values);
        self.demand(bias.len() == out, "a bias for each channel")?;
        let mut bias = bias;
        bias.resize(out.next_multiple_of(LANES), 0.0);
        let rectify = self.take(|act| (*act == Act::Rectify).then_some(())).is_some();
        let linear = Linear { weights: packed, bias };
        Ok(Some(Convolution {
            linear,
            channels,
            real_channels: inside,
            window,
            stride,
            pad,
            rectify,
        }))
    }

    fn block(&mut self, first_norm: Norm, width: usize) -> Result<Block, NotOfTheFamily> {
        let mix = self.linear(width, Some(3 * width), "query, key and value in one matrix")?;
        let mut sharpness = self.factors();
        self.follow(&Act::Multiply, "queries times keys")?;
        sharpness *= self.factors();
        self.follow(&Act::Softmax, "a softmax")?;
        self.follow(&Act::Multiply, "shares times values")?;
        let project = self.linear(width, Some(width), "the projection")?;
        self.follow(&Act::Join, "the sum around attention")?;
        let second_norm = self.norm(width)?;
        let up = self.linear(width, None, "the wide layer")?;
        self.gelu()?;
        let wide = up.bias.len();
        self.demand(wide.is_multiple_of(HEAD), "a wide layer of a multiple of 64")?;
        let down = self.linear(wide, Some(width), "the layer back")?;
        self.follow(&Act::Join, "the sum around the wide layer")?;
        let sharpness = sharpness * std::f32::consts::LOG2_E;
        Ok(Block { first_norm, mix, sharpness, project, second_norm, up, down })
    }

    /// One operator, or x * (erf(x / √2) + 1) * ½ in the order that exporters write.
    fn gelu(&mut self) -> Result<(), NotOfTheFamily> {
        if self.take(|act| (*act == Act::Gelu).then_some(())).is_some() {
            return Ok(());
        }
        let near = |found: f32, wanted: f32| (found - wanted).abs() < 1e-5;
        let inside = self.factors();
        self.demand(near(inside, std::f32::consts::FRAC_1_SQRT_2), "GELU: x / √2")?;
        self.follow(&Act::Erf, "GELU: the error function")?;
        self.follow(&Act::Shift(1.0), "GELU: plus one")?;
        let before = self.factors();
        self.follow(&Act::Gate, "GELU: times x")?;
        let after = self.factors();
        self.demand(near(before * after, 0.5), "GELU: times one half")
    }
}
