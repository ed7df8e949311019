//! Feature bits: names, and the same numbers as other crates.

use vhost::vhost_user::message::VhostUserProtocolFeatures;

use super::*;
use crate::wire::features::{describe_protocol, describe_virtio, parse_protocol, parse_virtio, virtio_bits};

/// Broken: a protocol feature has another bit than in the vhost crate.
#[test]
fn protocol_features_agree_with_the_vhost_crate() {
    let mut count = 0;
    for (name, bits) in VhostUserProtocolFeatures::all().iter_names() {
        let bit = parse_protocol(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(1 << bit, bits.bits(), "{name}");
        count += 1;
    }
    assert_eq!(count, ProtocolFeature::ALL.len() - 1, "all but the newest");
}

/// Broken: a virtio feature has another bit than in the kernel's headers.
#[test]
fn virtio_features_agree_with_the_kernel() {
    use virtio_bindings::{virtio_blk as blk, virtio_config as config, virtio_net as net, virtio_ring as ring};
    for (device, name, bit) in [
        (DeviceKind::Net, "CSUM", net::VIRTIO_NET_F_CSUM),
        (DeviceKind::Net, "GUEST_CSUM", net::VIRTIO_NET_F_GUEST_CSUM),
        (
            DeviceKind::Net,
            "CTRL_GUEST_OFFLOADS",
            net::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
        ),
        (DeviceKind::Net, "MTU", net::VIRTIO_NET_F_MTU),
        (DeviceKind::Net, "MAC", net::VIRTIO_NET_F_MAC),
        (DeviceKind::Net, "GUEST_TSO4", net::VIRTIO_NET_F_GUEST_TSO4),
        (DeviceKind::Net, "HOST_UFO", net::VIRTIO_NET_F_HOST_UFO),
        (DeviceKind::Net, "MRG_RXBUF", net::VIRTIO_NET_F_MRG_RXBUF),
        (DeviceKind::Net, "STATUS", net::VIRTIO_NET_F_STATUS),
        (DeviceKind::Net, "CTRL_VQ", net::VIRTIO_NET_F_CTRL_VQ),
        (DeviceKind::Net, "CTRL_RX_EXTRA", net::VIRTIO_NET_F_CTRL_RX_EXTRA),
        (DeviceKind::Net, "GUEST_ANNOUNCE", net::VIRTIO_NET_F_GUEST_ANNOUNCE),
        (DeviceKind::Net, "MQ", net::VIRTIO_NET_F_MQ),
        (DeviceKind::Net, "CTRL_MAC_ADDR", net::VIRTIO_NET_F_CTRL_MAC_ADDR),
        (DeviceKind::Net, "NOTF_COAL", net::VIRTIO_NET_F_NOTF_COAL),
        (DeviceKind::Net, "HASH_REPORT", net::VIRTIO_NET_F_HASH_REPORT),
        (DeviceKind::Net, "GUEST_HDRLEN", net::VIRTIO_NET_F_GUEST_HDRLEN),
        (DeviceKind::Net, "SPEED_DUPLEX", net::VIRTIO_NET_F_SPEED_DUPLEX),
        (DeviceKind::Blk, "SIZE_MAX", blk::VIRTIO_BLK_F_SIZE_MAX),
        (DeviceKind::Blk, "SEG_MAX", blk::VIRTIO_BLK_F_SEG_MAX),
        (DeviceKind::Blk, "GEOMETRY", blk::VIRTIO_BLK_F_GEOMETRY),
        (DeviceKind::Blk, "RO", blk::VIRTIO_BLK_F_RO),
        (DeviceKind::Blk, "BLK_SIZE", blk::VIRTIO_BLK_F_BLK_SIZE),
        (DeviceKind::Blk, "FLUSH", blk::VIRTIO_BLK_F_FLUSH),
        (DeviceKind::Blk, "TOPOLOGY", blk::VIRTIO_BLK_F_TOPOLOGY),
        (DeviceKind::Blk, "CONFIG_WCE", blk::VIRTIO_BLK_F_CONFIG_WCE),
        (DeviceKind::Blk, "MQ", blk::VIRTIO_BLK_F_MQ),
        (DeviceKind::Blk, "DISCARD", blk::VIRTIO_BLK_F_DISCARD),
        (DeviceKind::Blk, "WRITE_ZEROES", blk::VIRTIO_BLK_F_WRITE_ZEROES),
        (DeviceKind::Blk, "ZONED", blk::VIRTIO_BLK_F_ZONED),
        (DeviceKind::Other, "NOTIFY_ON_EMPTY", config::VIRTIO_F_NOTIFY_ON_EMPTY),
        (DeviceKind::Other, "ANY_LAYOUT", config::VIRTIO_F_ANY_LAYOUT),
        (DeviceKind::Other, "INDIRECT_DESC", ring::VIRTIO_RING_F_INDIRECT_DESC),
        (DeviceKind::Other, "EVENT_IDX", ring::VIRTIO_RING_F_EVENT_IDX),
        (DeviceKind::Other, "VERSION_1", config::VIRTIO_F_VERSION_1),
        (DeviceKind::Other, "IOMMU_PLATFORM", config::VIRTIO_F_IOMMU_PLATFORM),
        (DeviceKind::Other, "RING_PACKED", config::VIRTIO_F_RING_PACKED),
        (DeviceKind::Other, "IN_ORDER", config::VIRTIO_F_IN_ORDER),
        (DeviceKind::Other, "ORDER_PLATFORM", config::VIRTIO_F_ORDER_PLATFORM),
        (DeviceKind::Other, "SR_IOV", config::VIRTIO_F_SR_IOV),
        (
            DeviceKind::Other,
            "NOTIFICATION_DATA",
            config::VIRTIO_F_NOTIFICATION_DATA,
        ),
        (DeviceKind::Other, "RING_RESET", config::VIRTIO_F_RING_RESET),
    ] {
        assert_eq!(parse_virtio(device, name).map(u32::from), Ok(bit), "{name}");
    }
    assert_eq!(crate::wire::features::PROTOCOL_FEATURES, 0x4000_0000);
    assert_eq!(crate::wire::features::LOG_ALL, 0x400_0000);
}

/// Broken: a feature is not found by name, alias or with its prefix, or two share a bit or a name.
#[test]
fn every_feature_is_found_by_every_name() {
    for (bit, feature) in (0u8..).zip(ProtocolFeature::ALL) {
        assert_eq!((feature.bit(), ProtocolFeature::from_bit(bit)), (bit, Some(*feature)));
        for name in feature.aliases().iter().chain([&feature.name()]) {
            assert_eq!(name.parse(), Ok(*feature));
            assert_eq!(parse_protocol(&format!("vhost_user_protocol_f_{name}")), Ok(bit));
        }
    }
    assert_eq!(ProtocolFeature::MASK_ALL, 0xff_ffff);
    for (device, prefix) in [
        (DeviceKind::Net, "VIRTIO_NET_F_"),
        (DeviceKind::Blk, "VIRTIO_BLK_F_"),
        (DeviceKind::Other, "VIRTIO_F_"),
    ] {
        let mut seen = std::collections::HashSet::new();
        for bit in virtio_bits(device) {
            assert!(
                seen.insert(bit.bit.to_string()) && seen.insert(bit.name.to_owned()),
                "{} stands twice",
                bit.name
            );
            for name in bit.aliases.iter().chain([&bit.name]) {
                assert_eq!(parse_virtio(device, name), Ok(bit.bit));
                assert_eq!(parse_virtio(device, &format!("{prefix}{name}")), Ok(bit.bit));
            }
        }
    }
}

/// Broken: a feature word is described wrongly, or a name is taken for another device's feature.
#[test]
fn feature_words() {
    assert_eq!(describe_protocol(0), "none");
    assert_eq!(describe_protocol(0x9 | 1 << 40), "MQ|REPLY_ACK|bit40");
    assert_eq!(
        describe_virtio(DeviceKind::Net, 1 << 22 | 1 << 30),
        "MQ|PROTOCOL_FEATURES"
    );
    assert_eq!(describe_virtio(DeviceKind::Blk, 1 << 22 | 1 << 12), "MQ|bit22");
    assert_eq!(describe_virtio(DeviceKind::Other, 1 << 33 | 1), "bit0|ACCESS_PLATFORM");
    assert_eq!(parse_virtio(DeviceKind::Net, "MQ"), Ok(22));
    assert_eq!(parse_virtio(DeviceKind::Blk, "VIRTIO_BLK_F_MQ"), Ok(12));
    assert_eq!(parse_virtio(DeviceKind::Blk, "bit63"), Ok(63));
    assert!(
        parse_virtio(DeviceKind::Blk, "bit64").is_err() && parse_virtio(DeviceKind::Blk, "VIRTIO_NET_F_MQ").is_err()
    );
    assert_eq!(parse_protocol("bit24"), Ok(24));
    assert!("bit24".parse::<ProtocolFeature>().is_err());
    let error = parse_protocol("REPLY_ACKS").expect_err("invalid");
    assert_eq!(
        error.to_string(),
        "no protocol feature is called \"REPLY_ACKS\"; did you mean REPLY_ACK?"
    );
    let error = parse_virtio(DeviceKind::Other, "IOMMU_PLATFROM").expect_err("invalid");
    assert_eq!(error.suggestions[0], "IOMMU_PLATFORM");
}
