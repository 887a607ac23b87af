//! Structured log lines on standard error: one JSON object a line, `message` a constant, what varies in fields.

use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

pub fn info(message: &str, fields: &[(&str, &dyn Display)]) {
    write("info", message, fields);
}

pub fn error(message: &str, fields: &[(&str, &dyn Display)]) {
    write("error", message, fields);
}

fn write(level: &str, message: &str, fields: &[(&str, &dyn Display)]) {
    let time = SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64());
    let mut line = serde_json::Map::new();
    line.insert("time".into(), time.into());
    line.insert("level".into(), level.into());
    line.insert("message".into(), message.into());
    for (name, value) in fields {
        line.insert((*name).into(), value.to_string().into());
    }
    // One write a line, or lines of several threads would mix. A log that can't be written must not stop a mirror.
    let _ = std::io::stderr().write_all(format!("{}\n", serde_json::Value::Object(line)).as_bytes());
}
