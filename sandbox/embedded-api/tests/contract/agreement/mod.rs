//! The same requests, one after the other, to both servers: what they answer must be the same, word for word. Identifiers,
//! versions, times and names that the cases choose are set aside.

mod builtin;
mod comparison;
mod config_maps;
mod discovery;
mod request;
mod widgets;
