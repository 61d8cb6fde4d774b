//! Sets of fields: who owns what, and what a change touched.

mod compare;
mod element;
mod encode;
mod managed;
mod merge;
mod remove;
mod set;
mod shape;
mod tofields;

pub(crate) use compare::{Comparison, compare};
pub(crate) use element::Element;
pub(crate) use managed::{Entry, Managed};
pub(crate) use merge::merge;
pub(crate) use remove::remove;
pub(crate) use set::Set;
pub(crate) use shape::{Shape, Type};
pub(crate) use tofields::to_fields;
