//! The QEMU machine protocol: greeting, commands with their answers, events.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::error::{Channel, QemuError};
use super::exchange::CommandId;
use super::lines::LineSocket;

/// What a line from QEMU says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Incoming {
    Answer {
        id: CommandId,
        result: Result<Value, QemuError>,
    },
    Event {
        name: String,
        data: Value,
    },
}

/// A QMP connection past its greeting. Several commands may be under way.
#[derive(Debug)]
pub(super) struct QmpClient {
    socket: LineSocket,
    outstanding: VecDeque<(CommandId, String)>,
}

/// The id of the harness's own `qmp_capabilities`; commands count from 1.
const OWN: CommandId = CommandId(0);

impl QmpClient {
    /// Takes the greeting and leaves capabilities negotiation. QEMU answers when its start-up is over.
    pub(super) fn open(socket: LineSocket) -> Result<Self, QemuError> {
        let mut client = Self {
            socket,
            outstanding: VecDeque::new(),
        };
        let greeting = client.socket.line("greeting")?;
        let is_greeting = serde_json::from_str::<Value>(&greeting).is_ok_and(|value| value.get("QMP").is_some());
        if !is_greeting {
            return Err(protocol("greeting", &greeting));
        }
        client.send(OWN, "qmp_capabilities", &Value::Null)?;
        let line = client.socket.line("qmp_capabilities")?;
        match client.parse(&line)? {
            Incoming::Answer { id: OWN, result } => result.map(|_| client),
            _ => Err(protocol("qmp_capabilities", &line)),
        }
    }

    pub(super) fn socket(&self) -> &LineSocket {
        &self.socket
    }

    /// Sends a command. Its answer comes out of [`Self::take`].
    pub(super) fn send(&mut self, id: CommandId, execute: &str, arguments: &Value) -> Result<(), QemuError> {
        let mut line = json!({"execute": execute, "id": id.0});
        if !arguments.is_null() {
            line["arguments"] = arguments.clone();
        }
        self.outstanding.push_back((id, execute.to_owned()));
        self.socket.send(format!("{line}\n").as_bytes(), execute)
    }

    /// The next thing QEMU said, if it is already here.
    pub(super) fn take(&mut self) -> Result<Option<Incoming>, QemuError> {
        let waiting = self.waiting();
        match self.socket.try_line(&waiting)? {
            Some(line) => self.parse(&line).map(Some),
            None => Ok(None),
        }
    }

    /// The command that is waited for, for errors.
    pub(super) fn waiting(&self) -> String {
        self.outstanding
            .front()
            .map_or("(idle)", |(_, execute)| execute)
            .to_owned()
    }

    /// The commands that will get no answer any more.
    pub(super) fn abandon(&mut self) -> Vec<CommandId> {
        self.outstanding.drain(..).map(|(id, _)| id).collect()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    fn parse(&mut self, line: &str) -> Result<Incoming, QemuError> {
        let bad = || protocol(&self.waiting(), line);
        let mut message: Map<String, Value> = serde_json::from_str(line).map_err(|_| bad())?;
        if let Some(Value::String(name)) = message.remove("event") {
            return Ok(Incoming::Event {
                name,
                data: message.remove("data").unwrap_or(Value::Null),
            });
        }
        let id = message
            .get("id")
            .and_then(Value::as_u64)
            .map(CommandId)
            .ok_or_else(bad)?;
        let at = self
            .outstanding
            .iter()
            .position(|(outstanding, _)| *outstanding == id)
            .ok_or_else(bad)?;
        let result = match (message.remove("return"), message.remove("error")) {
            (Some(value), None) => Ok(value),
            (None, Some(error)) => {
                let text = |key| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let (class, description) = (text("class"), text("desc"));
                Err(QemuError::Qmp {
                    execute: self.outstanding[at].1.clone(),
                    class,
                    description,
                })
            }
            _ => return Err(bad()),
        };
        self.outstanding.remove(at);
        Ok(Incoming::Answer { id, result })
    }
}

fn protocol(outstanding: &str, line: &str) -> QemuError {
    let answer = line.chars().take(200).collect();
    QemuError::Protocol {
        channel: Channel::Qmp,
        outstanding: outstanding.to_owned(),
        answer,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::lines::tests::pair;
    use super::super::mailbox::Bell;
    use super::*;

    fn open() -> (UnixStream, QmpClient, Arc<Bell>) {
        let (mut qemu, socket, stop) = pair(Channel::Qmp, Duration::from_secs(5));
        qemu.write_all(b"{\"QMP\": {\"version\": {}}}\r\n{\"return\": {}, \"id\": 0}\r\n")
            .unwrap();
        (qemu, QmpClient::open(socket).unwrap(), stop)
    }

    /// Broken: answers and events are mixed up, or a refusal passes for success.
    #[test]
    fn answers_find_their_commands_and_events_pass() {
        let (mut qemu, mut client, _stop) = open();
        client.send(CommandId(1), "stop", &Value::Null).unwrap();
        client.send(CommandId(2), "device_del", &json!({"id": "d0"})).unwrap();
        qemu.write_all(
            b"{\"timestamp\": {}, \"event\": \"STOP\"}\r\n{\"return\": {}, \"id\": 1}\r\n\
              {\"id\": 2, \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no d0\"}}\r\n",
        )
        .unwrap();
        let event = Incoming::Event {
            name: "STOP".into(),
            data: Value::Null,
        };
        assert_eq!(client.take().unwrap(), Some(event));
        assert_eq!(
            client.take().unwrap(),
            Some(Incoming::Answer {
                id: CommandId(1),
                result: Ok(json!({}))
            })
        );
        let refused = QemuError::Qmp {
            execute: "device_del".into(),
            class: "DeviceNotFound".into(),
            description: "no d0".into(),
        };
        assert_eq!(
            client.take().unwrap(),
            Some(Incoming::Answer {
                id: CommandId(2),
                result: Err(refused)
            })
        );
        assert_eq!(client.take().unwrap(), None);
        assert!(client.is_idle());
    }

    /// Broken: nonsense on the QMP socket is taken for an answer.
    #[test]
    fn nonsense_is_a_protocol_error() {
        for line in [
            "[]",
            "{\"return\": {}}",
            "{\"return\": {}, \"id\": 7}",
            "{\"id\": 1}",
            "QMP",
        ] {
            let (mut qemu, mut client, _stop) = open();
            client.send(CommandId(1), "stop", &Value::Null).unwrap();
            qemu.write_all(format!("{line}\r\n").as_bytes()).unwrap();
            assert!(matches!(client.take(), Err(QemuError::Protocol { .. })), "{line}");
        }
    }
}
