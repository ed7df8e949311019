//! Names of messages, parties and channels.

use super::*;

/// Broken: a message cannot be found under one of its names.
#[test]
fn every_message_is_found_by_every_name() {
    for channel in Channel::ALL {
        for spec in all(DIALECT, channel) {
            for name in spec.aliases.iter().chain([&spec.name]) {
                for spelling in [(*name).to_owned(), name.to_lowercase(), format!("VHOST_USER_{name}")] {
                    assert_eq!(find(DIALECT, &spelling, Some(channel)), Ok(spec), "{spelling}");
                }
            }
            assert_eq!(find(DIALECT, &spec.full_name(), None), Ok(spec));
            assert_eq!(find(DIALECT, &spec.full_name().to_lowercase(), None), Ok(spec));
            if channel == Channel::Backend {
                for prefix in ["BACKEND_", "SLAVE_", "VHOST_USER_BACKEND_", "VHOST_USER_SLAVE_"] {
                    let old = format!("{prefix}{}", spec.name);
                    assert_eq!(find(DIALECT, &old, None), Ok(spec), "{old}");
                    assert_eq!(find(DIALECT, &old, Some(channel)), Ok(spec), "{old}");
                    assert!(find(DIALECT, &old, Some(Channel::Main)).is_err(), "{old}");
                }
            }
        }
    }
}

/// Broken: a name on both channels means another message than it says.
#[test]
fn a_name_on_both_channels_means_the_main_one() {
    let channel = |name, channel| find(DIALECT, name, channel).expect("valid").channel;
    assert_eq!(channel("IOTLB_MSG", None), Channel::Main);
    assert_eq!(channel("IOTLB_MSG", Some(Channel::Backend)), Channel::Backend);
    assert_eq!(channel("SLAVE_IOTLB_MSG", None), Channel::Backend);
    assert_eq!(channel("VRING_CALL", None), Channel::Backend);
    assert_eq!(channel("VRING_KICK", None), Channel::Main);
    assert_eq!(
        find(DIALECT, "SET_SLAVE_REQ_FD", None).expect("valid").id,
        id::frontend::SET_BACKEND_REQ_FD
    );
    assert_eq!(
        find(DIALECT, "CRYPTO_CREATE_SESS", None).expect("valid").id,
        id::frontend::CREATE_CRYPTO_SESSION
    );
}

/// Broken: a mistyped name gets no hint.
#[test]
fn unknown_names_get_suggestions() {
    let error = find(DIALECT, "GET_FEATURE", None).expect_err("invalid");
    assert_eq!(error.suggestions[0], "GET_FEATURES");
    assert!(
        error
            .to_string()
            .starts_with("no message is called \"GET_FEATURE\"; did you mean GET_FEATURES")
    );
    assert!(
        find(DIALECT, "CONFIG_CHANGE", None)
            .expect_err("invalid")
            .suggestions
            .contains(&"CONFIG_CHANGE_MSG")
    );
    assert_eq!(
        find(DIALECT, "zzz", None).expect_err("invalid").to_string(),
        "no message is called \"zzz\""
    );
    assert!(find(DIALECT, "", None).is_err());
}

/// Broken: parties and channels do not read back what they print, or old spellings are refused.
#[test]
fn parties_and_channels_parse() {
    for party in [Party::FrontEnd, Party::BackEnd] {
        assert_eq!(party.to_string().parse(), Ok(party));
        assert_eq!(party.other().other(), party);
    }
    for (word, party) in [
        ("frontend", Party::FrontEnd),
        ("master", Party::FrontEnd),
        ("slave", Party::BackEnd),
    ] {
        assert_eq!(word.parse(), Ok(party));
    }
    for channel in Channel::ALL {
        assert_eq!(channel.to_string().parse(), Ok(channel));
    }
    assert_eq!("slave".parse(), Ok(Channel::Backend));
    let error = "middle".parse::<Party>().expect_err("invalid").to_string();
    assert!(
        error.starts_with("\"middle\" is not a party: expected front-end"),
        "{error}"
    );
    assert_eq!(
        (Channel::Main.requester(), Channel::Backend.requester()),
        (Party::FrontEnd, Party::BackEnd)
    );
}
