//! Writes the CustomResourceDefinitions to standard output, one YAML document for each: `make generate` calls it.
#![expect(clippy::print_stdout, reason = "standard output is what it is for")]

fn main() -> Result<(), serde_saphyr::ser::Error> {
    for crd in api::crd::all() {
        print!("---\n{}", serde_saphyr::to_string(&crd)?);
    }
    Ok(())
}
