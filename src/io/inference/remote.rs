//! A net on another machine, asked over the Open Inference Protocol v2 (REST): `POST
//! /v2/models/NAME/infer`, tensors as JSON, or as bytes where the server says that it takes them.
//!
//! What a stranger gets wrong: a server that does not answer must not cost a look. Whoever asks has a
//! local net or a doubt to fall back on; after a failure nobody asks again for a while, so that a dead
//! server costs one time-out in that while and not one for each doubt.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::io::clock::instant;

/// After a failure nobody is asked for this long.
const RESTS: Duration = Duration::from_secs(10);
/// Longest answer that is read: two scores take some hundred bytes.
const MOST_ANSWER: u64 = 1 << 20;
/// The protocol's head field with the length of the JSON part.
const JSON_LENGTH: &str = "inference-header-content-length";
/// The extension that a server names when it takes tensors as bytes.
const BYTES: &str = "binary_tensor_data";

/// Where a net is served.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteNet {
    /// `http://host:port`, without a path.
    pub url: String,
    /// Id of the manifest entry, and name of the model on the server.
    pub model: String,
    /// Longest time for a whole answer.
    pub timeout: Duration,
    /// What a look is taken to cost there, J: nobody measures it here.
    pub joules: f64,
}

/// Why a server gave no outputs.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No connection, no answer in time, or an error status.
    #[error("{url}: {cause}")]
    NoAnswer {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// It answered with something else than outputs.
    #[error("{url}: {cause}: not an answer of the Open Inference Protocol v2")]
    Strange {
        /// Where.
        url: String,
        /// What.
        cause: String,
    },
    /// It failed a moment ago and is not asked again yet.
    #[error("{0}: failed less than {RESTS:?} ago")]
    Resting(String),
}

/// A server that is asked.
pub struct Remote {
    place: RemoteNet,
    agent: ureq::Agent,
    takes_bytes: Option<bool>,
    failed: Option<tokio::time::Instant>,
}

#[derive(Deserialize)]
struct Server {
    #[serde(default)]
    extensions: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    datatype: String,
    #[serde(default)]
    data: serde_json::Value,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
}

impl Remote {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(place: RemoteNet) -> Remote {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(place.timeout))
            // A machine of this site: no proxy of the environment's stands before it.
            .proxy(None)
            .max_redirects(0)
            .build();
        Remote { place, agent: config.new_agent(), takes_bytes: None, failed: None }
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &RemoteNet {
        &self.place
    }

    /// The first output of the net for one input of this shape.
    ///
    /// # Errors
    /// When there is no answer in time, or a strange one; then it rests.
    pub fn ask(&mut self, shape: &[usize], input: &[f32]) -> Result<Vec<f32>, RemoteError> {
        if self.failed.is_some_and(|at| instant().duration_since(at) < RESTS) {
            return Err(RemoteError::Resting(self.place.url.clone()));
        }
        let answer = self.infer(shape, input);
        self.failed = answer.is_err().then(instant);
        if answer.is_err() {
            self.takes_bytes = None;
        }
        answer
    }

    fn no_answer(&self, cause: impl ToString) -> RemoteError {
        RemoteError::NoAnswer { url: self.place.url.clone(), cause: cause.to_string() }
    }

    fn strange(&self, cause: impl ToString) -> RemoteError {
        RemoteError::Strange { url: self.place.url.clone(), cause: cause.to_string() }
    }

    fn takes_bytes(&mut self) -> Result<bool, RemoteError> {
        if let Some(known) = self.takes_bytes {
            return Ok(known);
        }
        let url = format!("{}/v2", self.place.url);
        let mut answer = self.agent.get(&url).call().map_err(|error| self.no_answer(error))?;
        let body = answer.body_mut().with_config().limit(MOST_ANSWER).read_to_vec();
        let body = body.map_err(|error| self.no_answer(error))?;
        let server: Server = serde_json::from_slice(&body).map_err(|error| self.strange(error))?;
        let takes = server.extensions.iter().any(|extension| extension == BYTES);
        self.takes_bytes = Some(takes);
        Ok(takes)
    }

    fn infer(&mut self, shape: &[usize], input: &[f32]) -> Result<Vec<f32>, RemoteError> {
        let as_bytes = self.takes_bytes()?;
        let url = format!("{}/v2/models/{}/infer", self.place.url, self.place.model);
        let (body, head) = request(shape, input, as_bytes);
        let mut request = self.agent.post(&url);
        request = match head {
            Some(length) => request
                .header("content-type", "application/octet-stream")
                .header(JSON_LENGTH, length.to_string()),
            None => request.header("content-type", "application/json"),
        };
        let mut answer = request.send(&body[..]).map_err(|error| self.no_answer(error))?;
        let json_length = answer.headers().get(JSON_LENGTH);
        let json_length = json_length.and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
        let body = answer.body_mut().with_config().limit(MOST_ANSWER).read_to_vec();
        let body = body.map_err(|error| self.no_answer(error))?;
        outputs(&body, json_length).map_err(|cause| self.strange(cause))
    }
}

/// The body of a request, and the length of its JSON where bytes follow.
fn request(shape: &[usize], input: &[f32], as_bytes: bool) -> (Vec<u8>, Option<usize>) {
    if !as_bytes {
        let tensor = json!({"name": "image", "shape": shape, "datatype": "FP32", "data": input});
        return (json!({ "inputs": [tensor] }).to_string().into_bytes(), None);
    }
    let size = json!({ "binary_data_size": input.len() * 4 });
    let tensor = json!({"name": "image", "shape": shape, "datatype": "FP32", "parameters": size});
    let mut body = json!({ "inputs": [tensor] }).to_string().into_bytes();
    let length = body.len();
    body.extend(input.iter().flat_map(|value| value.to_le_bytes()));
    (body, Some(length))
}

/// The first output of an answer.
fn outputs(body: &[u8], json_length: Option<usize>) -> Result<Vec<f32>, String> {
    let length = json_length.unwrap_or(body.len());
    let (json, bytes) = body.split_at_checked(length).ok_or("shorter than it says")?;
    let answer: Answer = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let first = answer.outputs.into_iter().next().ok_or("no output")?;
    if !matches!(first.datatype.as_str(), "FP32" | "FP64") {
        return Err(format!("an output of type {}", first.datatype));
    }
    if let Some(size) = first.parameters.binary_data_size {
        let bytes = bytes.get(..size).ok_or("fewer bytes than it says")?;
        if first.datatype == "FP64" {
            let all = bytes.as_chunks::<8>().0.iter();
            return Ok(all.map(|eight| f64::from_le_bytes(*eight) as f32).collect());
        }
        return Ok(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect());
    }
    let mut all = Vec::new();
    flatten(&first.data, &mut all).ok_or("an output that is not made of numbers")?;
    Ok(all)
}

/// Numbers of a list, or of lists in it: servers give either.
fn flatten(value: &serde_json::Value, all: &mut Vec<f32>) -> Option<()> {
    match value {
        serde_json::Value::Array(values) => values.iter().try_for_each(|v| flatten(v, all)),
        serde_json::Value::Number(number) => {
            all.push(number.as_f64()? as f32);
            Some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_every_form_and_nonsense_is_told() {
        let good = [
            r#"{"outputs":[{"name":"y","shape":[1,2],"datatype":"FP32","data":[0.5,-2]}]}"#,
            r#"{"outputs":[{"name":"y","shape":[1,2],"datatype":"FP64","data":[[0.5,-2.0]]}]}"#,
        ];
        for text in good {
            assert_eq!(outputs(text.as_bytes(), None).unwrap(), [0.5, -2.0]);
        }
        let head = r#"{"outputs":[{"name":"y","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
        let mut body = head.as_bytes().to_vec();
        body.extend([0.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()));
        assert_eq!(outputs(&body, Some(head.len())).unwrap(), [0.5, -2.0]);
        let bad = [
            "",
            "{}",
            r#"{"outputs":[]}"#,
            r#"{"outputs":[{"name":"y","datatype":"INT8","data":[1]}]}"#,
            r#"{"outputs":[{"name":"y","datatype":"FP32","data":["a"]}]}"#,
        ];
        for text in bad {
            assert!(outputs(text.as_bytes(), None).is_err(), "{text}");
        }
        assert!(outputs(&body[..head.len() + 5], Some(head.len())).is_err());
        assert!(outputs(&body, Some(10_000)).is_err());
    }

    /// In a process of its own, whose environment names a proxy.
    #[test]
    fn no_proxy_of_the_environment_is_asked() {
        const PROXY: &str = "HTTP_PROXY";
        if std::env::var_os(PROXY).is_none() {
            let name = std::thread::current().name().unwrap().to_owned();
            let mut again = std::process::Command::new(std::env::current_exe().unwrap());
            again.args([name.as_str(), "--exact"]).env(PROXY, "http://127.0.0.1:1");
            let said = again.output().unwrap();
            let ran = String::from_utf8_lossy(&said.stdout).contains("1 passed");
            return assert!(said.status.success() && ran, "{said:?}");
        }
        let (url, model) = ("http://127.0.0.1:2".to_owned(), "fire-far".to_owned());
        let place = RemoteNet { url, model, timeout: Duration::from_secs(1), joules: 0.0 };
        assert_eq!(Remote::new(place).agent.config().proxy(), None);
    }

    #[test]
    fn a_request_says_what_it_holds() {
        let (body, head) = request(&[1, 2], &[0.5, -2.0], true);
        let json: serde_json::Value = serde_json::from_slice(&body[..head.unwrap()]).unwrap();
        assert_eq!(json["inputs"][0]["parameters"]["binary_data_size"], 8);
        assert_eq!(body.len(), head.unwrap() + 8);
        let (body, head) = request(&[1, 2], &[0.5, -2.0], false);
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((head, &json["inputs"][0]["data"]), (None, &json!([0.5, -2.0])));
    }
}
