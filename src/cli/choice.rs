//! Options with a closed set of values: case-insensitive, offered to shell completion, and refused
//! with the nearest name.

use crate::image::names::ClosedSet;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};
use std::ffi::OsStr;

/// Parses one name of a [`ClosedSet`] and returns it in the spelling of the set.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneOf(pub(super) ClosedSet);

impl TypedValueParser for OneOf {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, Error> {
        let given = value.to_string_lossy();
        self.0.find(&given).map(str::to_owned).map_err(|why| {
            let option = argument.map(ToString::to_string).unwrap_or_default();
            Error::raw(ErrorKind::ValueValidation, format!("{option}: {why}\n")).with_cmd(command)
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.names.iter().copied().map(PossibleValue::new)))
    }
}
