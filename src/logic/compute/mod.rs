//! Compute as a load: what a node may draw beside everything else, and which job may draw how much of
//! it. Nodes come last and throttle before anything has to stop; their idle power is never in question.

mod book;
mod budget;
mod cap;
mod job;

pub use book::{JobBook, KEPT_EVERY, MOST_LIVE, MOST_RUNNING, Share};
pub use budget::{Spent, Window};
pub use cap::{CapRamp, allowed};
pub use job::{
    Account, Errand, HeldBy, Job, JobNews, JobReason, JobState, Method, Taken, Task, TooLong, need,
};
