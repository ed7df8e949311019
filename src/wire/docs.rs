//! The reference pages, written from the tables. A test holds the checked-in pages against them.

use std::fmt::Write as _;

use super::dialect::{Channel, Dialect};
use super::features::{DeviceKind, virtio_bits};
use super::layout::{Base, FieldSpec};
use super::payload::Layout;
use super::protocol::ProtocolFeature;
use super::table::{FdRule, MessageSpec, ReplyKind, all};

const NOTE: &str =
    "<!-- Written from the tables in src/wire/. VUH_BLESS=1 cargo test --lib wire::docs writes it anew. -->\n";
const TAKES: &str = "a String takes any text";

/// `docs/reference/messages.md`: every request, then every layout.
pub fn messages_markdown() -> String {
    let mut page = format!("# Messages\n\n{NOTE}\n{MESSAGES_INTRO}");
    for (channel, heading) in [
        (Channel::Main, "Requests of the front-end, on the main socket"),
        (Channel::Backend, "Requests of the back-end, on the back-end channel"),
    ] {
        write!(page, "\n## {heading}\n").expect(TAKES);
        for spec in all(Dialect::VhostUser, channel) {
            message(&mut page, spec);
        }
    }
    for (dialect, intro) in DIALECTS {
        write!(page, "\n## The dialect `{dialect}`\n\n{intro}").expect(TAKES);
        for spec in all(dialect, Channel::Main) {
            let inherited = all(Dialect::VhostUser, Channel::Main).iter().any(|known| {
                let as_known = MessageSpec {
                    dialect: known.dialect,
                    ..*spec
                };
                as_known == *known
            });
            if !inherited {
                message(&mut page, spec);
            }
        }
    }
    page.push_str("\n## Payloads\n\n");
    page.push_str("A field marked † is left out of the notation while it is zero.\n");
    for layout in Layout::ALL.iter().filter(|layout| !layout.fields().is_empty()) {
        write!(page, "\n### {layout}\n\n{} bytes.\n\n", layout.size_text()).expect(TAKES);
        page.push_str("| field | at | bits | written | meaning |\n|---|---|---|---|---|\n");
        for field in layout.fields() {
            row(&mut page, "", field);
            for item in field.items {
                row(&mut page, &format!("{}[i].", field.name), item);
            }
        }
    }
    page
}

const MESSAGES_INTRO: &str = "\
Every message begins with a header of 12 bytes in host byte order: `u32` request, `u32` flags, `u32` size of the payload.
Flags: `0x3` version (1), `0x4` reply, `0x8` need_reply. A name may be written with its prefix `VHOST_USER_` (on the
back-end channel also `BACKEND_` or `SLAVE_`), in upper or lower case, or as one of the older names given here.

One message a line is how they are written everywhere:

```text
SET_VRING_NUM index=0 num=256
SET_VRING_ENABLE! index=0 num=1                 `!`: need_reply is set
reply to GET_FEATURES value=0x175007e46
CONFIG_CHANGE_MSG! on backend                   on the back-end channel
GET_FEATURES as vring_state index=0 num=0       with a payload it does not usually have
SET_OWNER header_flags=0x11                     with other flags in the header
raw request=99 flags=0x1 payload=0011aabb       an unassigned request
```
";

const DIALECTS: [(Dialect, &str); 2] = [(Dialect::VhostPci, G1_INTRO), (Dialect::VhostPciG2, G2_INTRO)];

const G1_INTRO: &str = "\
vhost-pci as it was proposed in 2016. The header has 20 bytes: `u32` request, `u32` flags, `u64` connection id, `u32` size;
the version in the flags is 2. A master that has no id yet is anonymous: all ones, written `conn_id=anonymous`. Requests
1 to 19 are those of vhost-user; the back-end sends SET_FEATURES as well, and asks to part with SET_PEER_CONNECTION, both
on the main socket. Protocol bits: 4 VHOST_PCI, 5 DEV_INFO. The proposal numbers only SET_DEV_INFO; ids 20 and 22 and both
bits are this project's.
";

const G2_INTRO: &str = "\
vhost-pci as it came next, for one master and one slave: the header and version of vhost-user, requests 1 to 19 of it, and
protocol bits 4 VHOST_PCI and 5 SET_DEVICE_ID. The back-end sends SET_FEATURES as well, on the main socket.
";

fn message(page: &mut String, spec: &MessageSpec) {
    write!(page, "\n### {} {}\n\n{}\n\n", spec.id, spec.name, spec.doc).expect(TAKES);
    if spec.from_both {
        page.push_str("Sent by both sides.\n\n");
    }
    let mut item = |what: &str, text: String| writeln!(page, "- {what}: {text}").expect(TAKES);
    if !spec.aliases.is_empty() {
        item(
            "also called",
            spec.aliases
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", "),
        );
    }
    item(
        "about",
        format!("one {}", spec.scope.name()).replace("one device", "the device"),
    );
    item("payload", layouts(spec.request));
    if spec.request_fds != FdRule::NONE {
        item("files", files(&spec.request_fds));
    }
    item(
        "reply",
        format!("{}: {}", when(spec.reply.kind), layouts(spec.reply.layouts)),
    );
    if spec.reply_fds != FdRule::NONE {
        item("files of the reply", files(&spec.reply_fds));
    }
    item(
        "needs",
        if spec.requires == "none" {
            "nothing".to_owned()
        } else {
            spec.requires.to_owned()
        },
    );
    item("since", spec.since.to_owned());
}

fn layouts(layouts: &[Layout]) -> String {
    let link = |layout: &Layout| match layout {
        Layout::Empty => "none".to_owned(),
        layout => format!("[{layout}](#{layout})"),
    };
    layouts.iter().map(link).collect::<Vec<_>>().join(" or ")
}

fn files(rule: &FdRule) -> String {
    let count = if rule.min == rule.max {
        rule.min.to_string()
    } else {
        format!("{} to {}", rule.min, rule.max)
    };
    format!("{count}, {}", rule.what)
}

fn when(kind: ReplyKind) -> &'static str {
    match kind {
        ReplyKind::Always => "always",
        ReplyKind::FdOnly => "always, the file is the answer",
        ReplyKind::Ack => "with REPLY_ACK and need_reply",
        ReplyKind::AckIfReplyAck => "with REPLY_ACK (implementations wait for need_reply)",
        ReplyKind::PostcopyTable => "the table in postcopy, else with REPLY_ACK and need_reply",
        ReplyKind::LogBase => "always with LOG_SHMFD, else with REPLY_ACK and need_reply",
        ReplyKind::Disputed => "with REPLY_ACK and need_reply; without, text and practice disagree",
    }
}

fn row(page: &mut String, prefix: &str, field: &FieldSpec) {
    let quiet = if field.quiet { " †" } else { "" };
    let at = match field.offset_bits {
        bits if bits.is_multiple_of(8) && field.bits.is_multiple_of(8) => format!("{}", bits / 8),
        bits => format!("bit {bits}"),
    };
    let bits = if field.bits == 0 {
        "the rest".to_owned()
    } else {
        field.bits.to_string()
    };
    let base = match field.base {
        Base::Decimal => "decimal",
        Base::Hex => "hex",
        Base::Bytes => "hex digits",
        Base::List => "list",
    };
    writeln!(
        page,
        "| {prefix}{}{quiet} | {at} | {bits} | {base} | {} |",
        field.name, field.doc
    )
    .expect(TAKES);
}

/// `docs/reference/protocol-features.md`: protocol features, then the named virtio and vhost feature bits.
pub fn protocol_features_markdown() -> String {
    let mut page = format!("# Feature bits\n\n{NOTE}\n{FEATURES_INTRO}\n## Protocol features\n\n");
    page.push_str(
        "| bit | mask | name | also | since | allows | together with | devices |\n|---|---|---|---|---|---|---|---|\n",
    );
    for feature in ProtocolFeature::ALL {
        let (bit, mask, name) = (feature.bit(), feature.mask(), feature.name());
        let also = feature.aliases().join(", ");
        let with = feature
            .requires()
            .iter()
            .map(|needed| needed.name())
            .collect::<Vec<_>>()
            .join(", ");
        let (since, unlocks, devices) = (feature.since(), feature.unlocks(), feature.devices());
        writeln!(
            page,
            "| {bit} | {mask:#x} | {name} | {also} | {since} | {unlocks} | {with} | {devices} |"
        )
        .expect(TAKES);
    }
    let common = virtio_bits(DeviceKind::Other).count();
    for (device, heading) in [
        (DeviceKind::Other, "Virtio and vhost features of every device"),
        (DeviceKind::Net, "Features of net"),
        (DeviceKind::Blk, "Features of blk"),
    ] {
        write!(
            page,
            "\n## {heading}\n\n| bit | mask | name | also |\n|---|---|---|---|\n"
        )
        .expect(TAKES);
        let own = virtio_bits(device).count() - common;
        let count = if device == DeviceKind::Other { common } else { own };
        for bit in virtio_bits(device).take(count) {
            writeln!(
                page,
                "| {} | {:#x} | {} | {} |",
                bit.bit,
                bit.mask(),
                bit.name,
                bit.aliases.join(", ")
            )
            .expect(TAKES);
        }
    }
    page
}

const FEATURES_INTRO: &str = "\
Protocol features are exchanged with GET_PROTOCOL_FEATURES and SET_PROTOCOL_FEATURES, which a back-end offers with bit 30
of GET_FEATURES; bit 30 need not be acknowledged first. A name may be written with its prefix (`VHOST_USER_PROTOCOL_F_`,
`VIRTIO_F_`, `VIRTIO_RING_F_`, `VIRTIO_NET_F_`, `VIRTIO_BLK_F_`, `VHOST_F_`, `VHOST_USER_F_`), in upper or lower case;
`bit40` names any bit.
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sys::golden;

    fn is_fresh(name: &str, page: &str) {
        golden::check(Path::new("docs/reference").join(name), page, "--lib wire::docs");
    }

    /// Broken: the message reference differs from the table.
    #[test]
    fn messages_page_is_fresh() {
        is_fresh("messages.md", &messages_markdown());
    }

    /// Broken: the feature reference differs from the tables.
    #[test]
    fn features_page_is_fresh() {
        is_fresh("protocol-features.md", &protocol_features_markdown());
    }
}
