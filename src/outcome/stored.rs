//! How a cause stands in the state database and in bundles: under `cause` its word, as log, metrics and reports
//! have it, and under `kind` the variant that it is, of which one may have several words.

use super::Cause;
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};

/// A cause with its word before it.
#[derive(serde::Serialize)]
struct Worded<'a> {
    cause: &'static str,
    #[serde(flatten, with = "Cause")]
    fields: &'a Cause,
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Worded { cause: self.row().word, fields: self }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        // Relays before this form kept the variant under `cause`, and no word.
        if let (Some(cause), false) = (fields.remove("cause"), fields.contains_key("kind")) {
            fields.insert("kind".to_owned(), cause);
        }
        Self::deserialize(Value::Object(fields)).map_err(de::Error::custom)
    }
}
