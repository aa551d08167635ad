//! The one form in which commands speak to programs.
//!
//! An answer is one object, printed over several lines. What can be without bound comes as lines, one object
//! each: messages, policies, domains that are checked in one go. Every object has `version` at its top;
//! names are in `snake_case`; a moment is RFC 3339 in UTC; a cause of failure has the words that the log and the
//! metrics use, beside its evidence. What the relay stores has another form: there, a moment is a number.

use crate::clock::TIMESTAMP_NAME;
use crate::clock::Timestamp;
use crate::outcome::Cause;
use serde::Deserialize;
use serde::ser::{self, Serialize};
use serde_json::{Map, Value, json};

/// The version of all JSON that commands print. It changes when a member goes or means something else, and
/// not when one is added.
pub const VERSION: u32 = 1;

/// One answer: an object over several lines. A list that is bounded stands under `name` in it.
#[must_use]
pub fn object(answer: &impl Serialize) -> String {
    format!("{:#}\n", versioned(value(answer)))
}

/// One object of many, on a line of its own.
#[must_use]
pub fn line(one: &impl Serialize) -> String {
    format!("{}\n", versioned(value(one)))
}

/// A bounded list as an answer: its items stand under `name`.
#[must_use]
pub fn list(name: &str, items: &impl Serialize) -> String {
    object(&json!({ name: value(items) }))
}

/// What is printed of something, without the version. What cannot be put in JSON is `null`: nothing of ours.
#[must_use]
pub fn value(of: &impl Serialize) -> Value {
    let mut value = of.serialize(Readable).unwrap_or(Value::Null);
    explain(&mut value);
    value
}

fn versioned(value: Value) -> Value {
    let mut object = match value {
        Value::Object(object) => object,
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Map::from_iter([("value".to_owned(), other)])
        }
    };
    object.insert("version".to_owned(), VERSION.into());
    Value::Object(object)
}

/// Gives every cause the words that reports have for it, beside the one that log, metrics and the ledger have.
fn explain(value: &mut Value) {
    let cause = match value.get("cause") {
        Some(Value::String(_word)) => <Cause as Deserialize>::deserialize(&*value).ok(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(explain);
            if let Some(cause) = cause {
                let row = cause.row();
                let (status, side) = (row.status.to_string(), row.side.word());
                let words = [
                    ("status", json!(status)),
                    ("result_type", json!(row.result_type)),
                    ("side", json!(side)),
                    ("sentence", json!(cause.sentence())),
                    ("advice", json!(cause.advice())),
                ];
                fields.extend(words.map(|(name, word)| (name.to_owned(), word)));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(explain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A name as members have it: `not-tried` becomes `not_tried`, and `NotTried` as well.
fn member(name: &str) -> String {
    let mut made = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            made.push('_');
        }
        made.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
        before = c;
    }
    made
}

/// Makes values in which moments are text. All else is as the library makes it.
struct Readable;

/// The items of a list, and the variant they belong to.
struct Items {
    variant: Option<&'static str>,
    items: Vec<Value>,
}

/// The members of an object, the variant they belong to, and the name that waits for its value.
struct Members {
    variant: Option<&'static str>,
    members: Map<String, Value>,
    name: Option<String>,
}

impl Items {
    fn of(variant: Option<&'static str>) -> Self {
        Self { variant, items: Vec::new() }
    }
}

impl Members {
    fn of(variant: Option<&'static str>) -> Self {
        Self { variant, members: Map::new(), name: None }
    }
}

fn named(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => Value::Object(Map::from_iter([(member(variant), value)])),
        None => value,
    }
}

type JsonResult = Result<Value, serde_json::Error>;

macro_rules! plain {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> JsonResult {
            serde_json::to_value(value)
        })*
    };
}

impl ser::Serializer for Readable {
    type Ok = Value;
    type Error = serde_json::Error;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Members;
    type SerializeStruct = Members;
    type SerializeStructVariant = Members;

    plain!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8]
    );

    fn serialize_none(self) -> JsonResult {
        Ok(Value::Null)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> JsonResult {
        value.serialize(self)
    }

    fn serialize_unit(self) -> JsonResult {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> JsonResult {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> JsonResult {
        Ok(Value::from(variant))
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, name: &'static str, value: &T) -> JsonResult {
        let made = value.serialize(self)?;
        let moment = if name == TIMESTAMP_NAME { made.as_i64() } else { None };
        Ok(moment.map_or(made, |ms| Value::from(Timestamp(ms).rfc3339())))
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> JsonResult {
        Ok(named(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Items, Self::Error> {
        Ok(Items::of(None))
    }

    fn serialize_tuple(self, _length: usize) -> Result<Items, Self::Error> {
        Ok(Items::of(None))
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Items, Self::Error> {
        Ok(Items::of(None))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Items, Self::Error> {
        Ok(Items::of(Some(variant)))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Members, Self::Error> {
        Ok(Members::of(None))
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Members, Self::Error> {
        Ok(Members::of(None))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Members, Self::Error> {
        Ok(Members::of(Some(variant)))
    }
}

macro_rules! items {
    ($($trait:ident $method:ident),*) => {
        $(impl ser::$trait for Items {
            type Ok = Value;
            type Error = serde_json::Error;

            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Self::Error> {
                self.items.push(value.serialize(Readable)?);
                Ok(())
            }

            fn end(self) -> JsonResult {
                Ok(named(self.variant, Value::Array(self.items)))
            }
        })*
    };
}

items!(
    SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! members {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Members {
            type Ok = Value;
            type Error = serde_json::Error;

            fn serialize_field<T: ?Sized + Serialize>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Self::Error> {
                self.members.insert(name.to_owned(), value.serialize(Readable)?);
                Ok(())
            }

            fn end(self) -> JsonResult {
                Ok(named(self.variant, Value::Object(self.members)))
            }
        })*
    };
}

members!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Members {
    type Ok = Value;
    type Error = serde_json::Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, name: &T) -> Result<(), Self::Error> {
        let name = name.serialize(Readable)?;
        self.name = Some(name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Self::Error> {
        let name = self.name.take().unwrap_or_default();
        self.members.insert(name, value.serialize(Readable)?);
        Ok(())
    }

    fn end(self) -> JsonResult {
        Ok(Value::Object(self.members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[derive(Serialize)]
    #[serde(tag = "kind", rename_all = "kebab-case")]
    enum Tagged {
        OneThing { at: Timestamp },
    }

    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum Outside {
        ItsTime(Timestamp),
        NoTime,
    }

    #[derive(Serialize)]
    struct Sample {
        at: Option<Timestamp>,
        list: Vec<Outside>,
        #[serde(flatten)]
        tagged: Tagged,
        ms: i64,
    }

    #[test]
    fn a_moment_is_text_wherever_it_stands_and_is_read_back() {
        let at = Timestamp(1_795_261_468_123);
        let list = vec![Outside::ItsTime(at), Outside::NoTime];
        let sample = Sample { at: Some(at), list, tagged: Tagged::OneThing { at: Timestamp(0) }, ms: 7 };
        let text = "2026-11-21T11:44:28.123Z";
        let made: Value = serde_json::from_str(&line(&sample)).unwrap();
        assert_eq!(made["list"], json!([{ "its_time": text }, "no-time"]));
        assert_eq!((&made["version"], &made["ms"], &made["kind"]), (&json!(1), &json!(7), &json!("one-thing")));
        assert_eq!(serde_json::from_value::<Timestamp>(json!(text)).unwrap(), at);
        assert_eq!(serde_json::to_value(at).unwrap(), json!(at.0), "what is stored stays a number");
        assert!(serde_json::from_value::<Timestamp>(json!("yesterday")).is_err());
    }

    #[test]
    fn a_cause_has_the_words_of_the_log_wherever_it_stands() {
        for cause in crate::outcome::every::cause() {
            let made = value(&json!({ "last": value(&cause) }));
            let row = cause.row();
            assert_eq!((&made["last"]["cause"], &made["last"]["side"]), (&json!(row.word), &json!(row.side.word())));
            assert_eq!(made["last"]["sentence"], json!(cause.sentence()));
        }
    }

    #[test]
    fn a_member_is_in_snake_case_whatever_its_variant_is_called() {
        assert_eq!(
            ["its-time", "ItsTime", "itsTime", "MX", "a_b"].map(member),
            ["its_time", "its_time", "its_time", "mx", "a_b"]
        );
    }

    #[test]
    fn a_list_is_an_object_with_a_version() {
        let made: Value = serde_json::from_str(&list("all", &[1, 2])).unwrap();
        assert_eq!(made, json!({ "all": [1, 2], "version": 1 }));
    }
}
