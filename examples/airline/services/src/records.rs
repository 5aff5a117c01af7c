//! The sample data, in memory: a list of JSON objects, each with an `id`.

use serde_json::Value;
use std::cell::RefCell;

/// A demo that runs for days must not grow; more than anybody adds by hand.
const RECORDS_MAX: usize = 1_000;

pub struct Records(RefCell<Vec<Value>>);

#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    NotAnObject,
    Full,
}

impl Records {
    pub fn parse(json: &str) -> Result<Records, String> {
        let list: Vec<Value> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Ok(Records(RefCell::new(list)))
    }

    /// Those whose members equal these; a member that no record has matches none.
    pub fn list(&self, wanted: &[(String, String)]) -> Value {
        let matches = |record: &&Value| {
            wanted.iter().all(|(name, value)| record.get(name).and_then(Value::as_str) == Some(value))
        };
        Value::Array(self.0.borrow().iter().filter(matches).cloned().collect())
    }

    pub fn get(&self, id: &str) -> Option<Value> {
        self.0.borrow().iter().find(|record| record["id"] == id).cloned()
    }

    /// Adds an object under an id of its own, whatever id it came with.
    pub fn add(&self, mut record: Value) -> Result<Value, Refused> {
        let mut records = self.0.borrow_mut();
        if records.len() >= RECORDS_MAX {
            return Err(Refused::Full);
        }
        let object = record.as_object_mut().ok_or(Refused::NotAnObject)?;
        let last = records.iter().filter_map(|record| record["id"].as_str()?.parse::<u64>().ok()).max();
        object.insert("id".into(), (last.unwrap_or(0) + 1).to_string().into());
        records.push(record.clone());
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn records() -> Records {
        Records::parse(r#"[{"id":"1","base":"FRA"},{"id":"7","base":"OSL"}]"#).unwrap()
    }

    #[test]
    fn records_are_found_by_id_and_by_member() {
        assert_eq!(records().get("7").unwrap()["base"], "OSL");
        assert_eq!(records().get("8"), None);
        let wanted = [("base".to_string(), "FRA".to_string())];
        assert_eq!(records().list(&wanted), json!([{"id": "1", "base": "FRA"}]));
        assert_eq!(records().list(&[("x".into(), "y".into())]), json!([]));
    }

    #[test]
    fn a_new_record_gets_the_next_id() {
        let records = records();
        assert_eq!(records.add(json!({"id": "1", "base": "LIS"})).unwrap()["id"], "8");
        assert_eq!(records.get("8").unwrap()["base"], "LIS");
        assert_eq!(records.add(json!([1])), Err(Refused::NotAnObject));
    }

    #[test]
    fn the_sample_data_is_whole() {
        for text in [include_str!("../data/employees.json"), include_str!("../data/flights.json")] {
            let records = Records::parse(text).unwrap();
            let list = records.list(&[]);
            assert!(list.as_array().unwrap().iter().all(|record| record["id"].is_string()));
        }
    }
}
