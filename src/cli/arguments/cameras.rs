//! What can be typed of cameras.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Format, Place, id};
use crate::logic::site::Id;

/// Who we are to a camera that asks.
#[derive(Debug, Args)]
pub struct Who {
    /// The camera's user.
    #[arg(long, requires = "password_file")]
    pub user: Option<String>,
    /// File whose first line is the password.
    #[arg(long, requires = "user")]
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Cameras {
    /// Asks a camera over ONVIF what it offers, or an address for a few pictures: size, kind, interval, cost.
    Probe {
        /// A host, with or without port (asked over ONVIF), http://host/path or rtsp://host/path.
        target: String,
        #[command(flatten)]
        who: Who,
        /// Id of the camera in the site file.
        #[arg(long = "id", value_parser = id)]
        camera_id: Option<Id>,
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Keeps one picture as a JPEG.
    Still {
        /// http://host/path or rtsp://host/path.
        url: String,
        /// Where the result is written.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        who: Who,
    },
    /// A camera of the site was turned on purpose: what it usually shows is learned anew.
    Relearn {
        /// The camera, as the site file calls it.
        #[arg(value_parser = id)]
        camera: Id,
        #[command(flatten)]
        place: Place,
    },
    /// Looks once a second and tells what is seen.
    Watch {
        /// http://host/path or rtsp://host/path.
        url: String,
        /// Ends after so many looks.
        #[arg(long)]
        looks: Option<u64>,
        /// Folder of the models.
        #[arg(long)]
        models: Option<PathBuf>,
        #[command(flatten)]
        who: Who,
    },
}
