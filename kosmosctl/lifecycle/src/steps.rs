//! A command's steps: each is said as it goes, and a failure says where it happened and how to go back.

use std::fmt::Display;

use kube::api::DynamicObject;

use crate::{
    connect::Connection,
    object::Name,
    say::Say,
    write::{Outcome, WriteError, Writer},
};

/// A step that failed, after which a command has left what it did.
#[derive(Debug, thiserror::Error)]
#[error(
    "{step}: {reason}. Nothing is undone: the same command again goes on from here; to go back instead: {back}"
)]
pub struct StepError {
    /// Which step.
    pub step: String,
    /// Why.
    pub reason: String,
    /// The command that undoes what was done.
    pub back: String,
}

/// The steps of one command.
pub struct Steps<'a> {
    /// Where they are said.
    pub say: &'a mut Say,
    /// The command that undoes them.
    back: String,
    step: String,
}

impl<'a> Steps<'a> {
    /// Steps that a command undoes.
    pub fn new(say: &'a mut Say, back: impl Into<String>) -> Self {
        Steps { say, back: back.into(), step: String::new() }
    }

    /// The next step, in a cluster.
    pub fn begin(&mut self, what: impl Display, at: &Connection) -> anyhow::Result<()> {
        self.step = format!("{what} in the {} cluster ({})", at.role, at.server);
        Ok(self.say.line(format_args!("{}:", self.step))?)
    }

    /// Something of this step that did not work.
    pub fn failed(&self, error: impl Display) -> anyhow::Error {
        let (step, back) = (self.step.clone(), self.back.clone());
        let reason = error.to_string().trim_end_matches('.').to_owned();
        StepError { step, reason, back }.into()
    }

    /// A line of this step.
    pub fn note(&mut self, text: impl Display) -> anyhow::Result<()> {
        Ok(self.say.line(format_args!("  {text}"))?)
    }

    /// Applies objects in their order.
    pub async fn apply(
        &mut self,
        writer: &Writer,
        objects: &[DynamicObject],
    ) -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for object in objects {
            let outcome = self.settle(writer, Name::of(object), writer.apply(object).await)?;
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Deletes objects in their order; what is not there is not worth a line.
    pub async fn delete(&mut self, writer: &Writer, objects: &[DynamicObject]) -> anyhow::Result<()> {
        for object in objects {
            self.settle(writer, Name::of(object), writer.delete(object).await)?;
        }
        Ok(())
    }

    /// Says what a write came to.
    pub fn settle(
        &mut self,
        writer: &Writer,
        name: Name,
        written: Result<Outcome, WriteError>,
    ) -> anyhow::Result<Outcome> {
        let outcome = written.map_err(|error| self.failed(error))?;
        if outcome != Outcome::Absent {
            self.note(format_args!("{name} {outcome}{}", writer.dry_run.suffix()))?;
        }
        Ok(outcome)
    }
}
