//! The seam to the kernel: one reading, and steps with an answer each.

use std::fmt;

use crate::actual::Actual;
use crate::step::{Stage, Step};

/// How to read a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Everything, anew.
    Whole,
    /// What the last reading found, brought up to date by what the kernel itself told since. A kernel that did not tell
    /// everything is read as a whole.
    Current,
}

/// A kernel that can be read and changed.
pub trait Kernel {
    /// Reads everything that decisions depend on. What cannot be read is an error, never an empty answer.
    fn read(&mut self, how: Reading) -> Result<(), KernelError>;

    /// What the last reading found, and what the kernel told of the steps since.
    fn actual(&self) -> &Actual;

    /// Does the steps of one stage in their order, with an answer for each. A refused step stops nothing.
    fn apply(&mut self, stage: Stage, steps: &[Step]) -> Result<Vec<Result<(), Refusal>>, KernelError>;
}

/// The conversation failed: what the kernel holds now is unknown until it is read again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// It could not be read.
    #[error("cannot read {what}: {reason}")]
    Read {
        /// Which part of it.
        what: &'static str,
        /// The system's words.
        reason: String,
    },
    /// Steps were sent, and their answers did not come.
    #[error("lost the kernel while changing {stage}: {reason}")]
    Write {
        /// Which steps.
        stage: Stage,
        /// The system's words.
        reason: String,
    },
}

/// The kernel refused one step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Error number, where the kernel itself answered.
    pub errno: Option<i32>,
    /// Its words, with the name of the error.
    pub message: String,
}

/// `EEXIST`.
pub(crate) const EXISTS: i32 = 17;

impl Refusal {
    /// A refusal that is not the kernel's: a program is missing, a device could not be made.
    pub fn without_errno(message: impl Into<String>) -> Self {
        Refusal { errno: None, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
