//! The requests of the back-end channel, sent by the back-end.

use super::super::dialect::Channel;
use super::super::payload::Layout::{Iotlb, Mmap, SharedObject, U64, VringArea, VringState};
use super::super::protocol::ProtocolFeature as F;
use super::Gate::{Protocol, Virtio};
use super::MessageSpec as M;
use super::ReplyKind::Always;
use super::{MessageSpec, requests};

requests! { Channel::Backend;

IOTLB_MSG = 1: M::device("Reports a missing translation, or an access that a translation does not allow. The update itself comes on the main socket.")
    .carries(&[Iotlb])
    .needs("ACCESS_PLATFORM (bit 33) and BACKEND_REQ negotiated", &[Virtio(33), Protocol(F::BackendReq)])
    .since("QEMU 2.10");

CONFIG_CHANGE_MSG = 2: M::device("Says that the configuration space changed; the front-end reads it again with GET_CONFIG.")
    .needs("CONFIG and BACKEND_REQ negotiated", &[Protocol(F::Config), Protocol(F::BackendReq)])
    .since("QEMU 2.12");

VRING_HOST_NOTIFIER_MSG = 3: M::ring("Offers a page that the guest can write to notify the ring directly, or withdraws it.")
    .carries(&[VringArea])
    .attaches(0, 1, "the page; none, with bit 8 of value set, withdraws it")
    .needs("HOST_NOTIFIER and BACKEND_REQ negotiated, BACKEND_SEND_FD for the file",
        &[Protocol(F::HostNotifier), Protocol(F::BackendReq)])
    .since("QEMU 3.0");

VRING_CALL = 4: M::ring("Says in-band that the ring has used buffers.")
    .carries(&[VringState])
    .needs("INBAND_NOTIFICATIONS negotiated", &[Protocol(F::InbandNotifications), Protocol(F::BackendReq)])
    .since("QEMU 5.0");

VRING_ERR = 5: M::ring("Says in-band that an error occurred on the ring.")
    .carries(&[VringState])
    .needs("INBAND_NOTIFICATIONS negotiated", &[Protocol(F::InbandNotifications), Protocol(F::BackendReq)])
    .since("QEMU 5.0");

SHARED_OBJECT_ADD = 6: M::device("Announces that this back-end owns the object.")
    .carries(&[SharedObject])
    .needs("SHARED_OBJECT and BACKEND_REQ negotiated", &[Protocol(F::SharedObject), Protocol(F::BackendReq)])
    .since("QEMU 8.2");

SHARED_OBJECT_REMOVE = 7: M::device("Takes the announcement of an object back.")
    .carries(&[SharedObject])
    .needs("SHARED_OBJECT and BACKEND_REQ negotiated", &[Protocol(F::SharedObject), Protocol(F::BackendReq)])
    .since("QEMU 8.2");

SHARED_OBJECT_LOOKUP = 8: M::device("Asks for an object that some back-end announced.")
    .carries(&[SharedObject])
    .replies(Always, &[U64])
    .returns(0, 1, "the dma-buf, when found")
    .needs("SHARED_OBJECT and BACKEND_REQ negotiated", &[Protocol(F::SharedObject), Protocol(F::BackendReq)])
    .since("QEMU 8.2");

SHMEM_MAP = 9: M::device("Asks the front-end to map the file into a shared memory region of the device.")
    .carries(&[Mmap])
    .attaches(1, 1, "the file to map")
    .needs("SHMEM, BACKEND_REQ and BACKEND_SEND_FD negotiated", &[Protocol(F::Shmem), Protocol(F::BackendReq)])
    .since("QEMU 11.1");

SHMEM_UNMAP = 10: M::device("Asks the front-end to undo exactly one earlier mapping.")
    .carries(&[Mmap])
    .needs("SHMEM and BACKEND_REQ negotiated", &[Protocol(F::Shmem), Protocol(F::BackendReq)])
    .since("QEMU 11.1");

}
