//! An ONNX file as a list of acts: what a net does, in order, without the shuffling of shapes.
//!
//! What a stranger gets wrong: operators that only move numbers (Reshape, Transpose, Split, ...) are
//! left out, not understood. Whether the rest then means what `layers` takes it for is not proven by
//! reading: the golden output proves it, at every load.

use std::collections::BTreeMap;

use tract_onnx::data_resolver;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};
use tract_onnx::prelude::{Framework, Tensor};
use tract_onnx::tensor::load_tensor;

/// Numbers with their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// One thing that a net does to its data.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Convolution: weights `[out, in, height, width]`, bias, stride, padding.
    Convolve { weights: Constant, bias: Option<Constant>, stride: usize, pad: usize },
    /// Nothing below zero.
    Rectify,
    /// A constant row in front of the rows.
    Prepend(Constant),
    /// A constant of more than one number is added.
    AddConstant(Constant),
    /// One number is added.
    Shift(f32),
    /// Everything times one number.
    Scale(f32),
    /// Rows to mean 0 and variance 1, then times and plus a constant.
    Normalise { gain: Constant, bias: Option<Constant>, epsilon: f32 },
    /// Rows times a constant matrix `[in, out]`.
    Times(Constant),
    /// Two computed matrices multiplied.
    Multiply,
    /// Two computed values added.
    Join,
    /// Two computed values multiplied one by one.
    Gate,
    /// Rows to shares.
    Softmax,
    /// The error function.
    Erf,
    /// GELU as one operator.
    Gelu,
    /// The mean of the rows.
    Mean,
    /// The first row.
    First,
}

/// Why a file cannot be read as acts.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// Not an ONNX file, or without a graph.
    #[error("not a readable ONNX file: {0}")]
    Unreadable(String),
    /// An operator that this family does not have.
    #[error("operator {0} is not in the family that the int8 kernel covers")]
    Foreign(String),
    /// An operator of the family, used in another way.
    #[error("{node}: {why}")]
    Unusual {
        /// The node's name.
        node: String,
        /// What is unusual.
        why: &'static str,
    },
}

/// Reads a file.
///
/// # Errors
/// When it is no ONNX file or holds operators of another family.
pub fn read(bytes: &[u8]) -> Result<Vec<Act>, ActError> {
    let unreadable = |error: String| ActError::Unreadable(error);
    let proto: ModelProto = tract_onnx::onnx()
        .proto_model_for_read(&mut &*bytes)
        .map_err(|error| unreadable(format!("{error:#}")))?;
    let graph = proto.graph.ok_or_else(|| unreadable("no graph in it".to_owned()))?;
    let constants = constants(&graph)?;
    let mut acts = Vec::new();
    for node in &graph.node {
        acts.extend(Reader { node, constants: &constants }.acts()?);
    }
    Ok(acts)
}

/// All weights and constant nodes by name.
fn constants(graph: &GraphProto) -> Result<BTreeMap<&str, Constant>, ActError> {
    let resolver = data_resolver::default();
    let mut all = BTreeMap::new();
    let in_nodes = graph.node.iter().filter(|node| node.op_type == "Constant");
    let in_nodes = in_nodes.filter_map(|node| {
        let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref())?;
        Some((node.output.first()?.as_str(), tensor))
    });
    let tensors = graph.initializer.iter().map(|t| (t.name.as_str(), t)).chain(in_nodes);
    for (name, tensor) in tensors {
        let loaded = load_tensor(&*resolver, tensor, None)
            .and_then(|tensor| numbers(&tensor))
            .map_err(|error| ActError::Unreadable(format!("{name}: {error:#}")))?;
        all.insert(name, loaded);
    }
    Ok(all)
}

fn numbers(tensor: &Tensor) -> tract_onnx::prelude::TractResult<Constant> {
    let cast = tensor.cast_to::<f32>()?;
    let values = cast.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    Ok(Constant { shape: tensor.shape().to_vec(), values })
}

struct Reader<'a> {
    node: &'a NodeProto,
    constants: &'a BTreeMap<&'a str, Constant>,
}

impl Reader<'_> {
    fn acts(&self) -> Result<Vec<Act>, ActError> {
        Ok(vec![match self.node.op_type.as_str() {
            "Conv" => self.convolution()?,
            "Relu" => Act::Rectify,
            "Softmax" => Act::Softmax,
            "Erf" => Act::Erf,
            "Gelu" => Act::Gelu,
            "ReduceMean" => Act::Mean,
            "LayerNormalization" => Act::Normalise {
                gain: self.constant(1).cloned().ok_or_else(|| self.unusual("no constant gain"))?,
                bias: self.constant(2).cloned(),
                epsilon: self.attribute("epsilon").map_or(1e-5, |a| a.f),
            },
            "Add" => match self.either() {
                Some(Constant { values, .. }) if values.len() == 1 => Act::Shift(values[0]),
                Some(constant) => Act::AddConstant(constant.clone()),
                None => Act::Join,
            },
            "Mul" => match self.either() {
                Some(Constant { values, .. }) if values.len() == 1 => Act::Scale(values[0]),
                Some(_) => return Err(self.unusual("a product with many constants")),
                None => Act::Gate,
            },
            "Div" => match self.constant(1) {
                Some(Constant { values, .. }) if values.len() == 1 => Act::Scale(1.0 / values[0]),
                _ => return Err(self.unusual("a quotient of computed values")),
            },
            "MatMul" => match (self.constant(0), self.constant(1)) {
                (None, Some(matrix)) => Act::Times(matrix.clone()),
                (None, None) => Act::Multiply,
                _ => return Err(self.unusual("a constant on the left")),
            },
            "Gemm" => return self.gemm(),
            "Concat" => match self.either() {
                // A row of floats in front of the tokens; everything else puts shapes together.
                Some(row) if row.shape.len() == 3 => Act::Prepend(row.clone()),
                _ => return Ok(Vec::new()),
            },
            "Gather" if self.attribute("axis").is_some_and(|a| a.i == 1) => Act::First,
            "Constant" | "Shape" | "Slice" | "Gather" | "Reshape" | "Transpose" | "Split"
            | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" | "Cast" | "Expand" => {
                return Ok(Vec::new());
            }
            other => return Err(ActError::Foreign(other.to_owned())),
        }])
    }

    fn unusual(&self, why: &'static str) -> ActError {
        ActError::Unusual { node: self.node.name.clone(), why }
    }

    fn constant(&self, input: usize) -> Option<&Constant> {
        self.constants.get(self.node.input.get(input)?.as_str())
    }

    fn either(&self) -> Option<&Constant> {
        self.constant(0).or_else(|| self.constant(1))
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    fn convolution(&self) -> Result<Act, ActError> {
        let weights = self.constant(1).cloned().ok_or_else(|| self.unusual("computed weights"))?;
        let all = |name: &str, without: i64| -> Result<usize, ActError> {
            let Some(attribute) = self.attribute(name) else { return Ok(without as usize) };
            let first = attribute.ints.first().copied().unwrap_or(without);
            let same = attribute.ints.iter().all(|value| *value == first);
            let value = usize::try_from(first).ok().filter(|_| same);
            value.ok_or_else(|| self.unusual("strides, pads or dilations that differ"))
        };
        if all("dilations", 1)? != 1 || self.attribute("group").is_some_and(|a| a.i != 1) {
            return Err(self.unusual("dilated or grouped"));
        }
        let (stride, pad) = (all("strides", 1)?, all("pads", 0)?);
        Ok(Act::Convolve { weights, bias: self.constant(2).cloned(), stride, pad })
    }

    /// The head: a matrix given the other way round, and its bias in the same node.
    fn gemm(&self) -> Result<Vec<Act>, ActError> {
        let number = |name: &str, without: f32| self.attribute(name).map_or(without, |a| a.f);
        let flag = |name: &str| self.attribute(name).is_some_and(|a| a.i != 0);
        if number("alpha", 1.0) != 1.0 || number("beta", 1.0) != 1.0 || flag("transA") {
            return Err(self.unusual("scaled or turned"));
        }
        let matrix = self.constant(1).ok_or_else(|| self.unusual("computed weights"))?;
        let &[rows, columns] = matrix.shape.as_slice() else {
            return Err(self.unusual("weights that are no matrix"));
        };
        let (shape, values) = if flag("transB") {
            let turned = (0..rows * columns).map(|i| matrix.values[i % rows * columns + i / rows]);
            (vec![columns, rows], turned.collect())
        } else {
            (vec![rows, columns], matrix.values.clone())
        };
        let bias = self.constant(2).cloned().map(Act::AddConstant);
        Ok([Act::Times(Constant { shape, values })].into_iter().chain(bias).collect())
    }
}
