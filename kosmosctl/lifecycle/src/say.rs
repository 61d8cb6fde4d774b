//! What a command says while it works: results on one stream, remarks on the other.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Two streams.
pub struct Say {
    out: Box<dyn Write>,
    remarks: Box<dyn Write>,
}

impl Say {
    /// On standard output and standard error.
    pub fn standard() -> Self {
        Say { out: Box::new(io::stdout()), remarks: Box::new(io::stderr()) }
    }

    /// Into these.
    pub fn into(out: Box<dyn Write>, remarks: Box<dyn Write>) -> Self {
        Say { out, remarks }
    }

    /// A line of the result.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Text of the result, as it is.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// A remark beside the result.
    pub fn remark(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.remarks, "{text}")
    }
}
