//! The requests of the main socket, sent by the front-end.

use super::super::dialect::Channel;
use super::super::payload::Layout::{
    Config, CryptoSession, DeviceState, Empty, Inflight, Iotlb, Log, MemReg, MemTable, SharedObject, ShmemConfig, U64,
    VringAddr, VringBase, VringFd, VringState,
};
use super::super::protocol::ProtocolFeature as F;
use super::Gate::{Protocol, ProtocolAbsent, ProtocolOffered, Virtio, VirtioAbsent, VirtioOffered};
use super::MessageSpec as M;
use super::ReplyKind::{AckIfReplyAck, Always, Disputed, FdOnly, LogBase, PostcopyTable};
use super::{MessageSpec, requests};

requests! { Channel::Main;

GET_FEATURES = 1: M::device("Asks for the virtio and vhost feature bits. Answerable at any time; QEMU also uses it as a barrier.")
    .replies(Always, &[U64])
    .since("QEMU 2.1");

SET_FEATURES = 2: M::device("Acknowledges feature bits. Without bit 30 it enables all rings at once. Repeated while running only to toggle LOG_ALL.")
    .carries(&[U64])
    .since("QEMU 2.1");

SET_OWNER = 3: M::device("Marks the start of the session; once a connection. QEMU sends it after the protocol features.")
    .since("QEMU 2.1");

RESET_OWNER = 4: M::device("Deprecated. A back-end may ignore it or disable all rings.")
    .since("QEMU 2.1");

SET_MEM_TABLE = 5: M::device("Replaces all memory regions. In postcopy the back-end answers with its own addresses, and a second message without files confirms.")
    .carries(&[MemTable, U64, Empty])
    .replies(PostcopyTable, &[U64, MemTable])
    .attaches(0, 8, "one shared memory file a region, in the same order; none in the confirmation of postcopy")
    .since("QEMU 2.1");

SET_LOG_BASE = 6: M::device("Gives the dirty log. The body of the reply is not specified: implementations send 0, 8 or 16 bytes.")
    .carries(&[Log, U64])
    .replies(LogBase, &[Empty, U64, Log])
    .attaches(0, 1, "the bitmap, exactly when LOG_SHMFD is negotiated")
    .needs("LOG_ALL (bit 26) offered; LOG_SHMFD negotiated for the form with a file", &[VirtioOffered(26)])
    .since("QEMU 2.1, with a file 2.5");

SET_LOG_FD = 7: M::device("Gives an eventfd that the back-end signals after it changed the log.")
    .attaches(1, 1, "the eventfd")
    .needs("LOG_ALL (bit 26) offered", &[VirtioOffered(26)])
    .since("QEMU 2.1");

SET_VRING_NUM = 8: M::ring("Sets the size of a stopped ring.")
    .carries(&[VringState])
    .since("QEMU 2.1");

SET_VRING_ADDR = 9: M::ring("Sets the addresses of a ring. While it runs, repeated only to toggle the log flag.")
    .carries(&[VringAddr])
    .since("QEMU 2.1");

SET_VRING_BASE = 10: M::ring("Sets where a stopped ring will start.")
    .carries(&[VringBase])
    .since("QEMU 2.1");

GET_VRING_BASE = 11: M::ring("Stops the ring once its requests in flight are done, and asks where it stopped.")
    .carries(&[VringState])
    .replies(Always, &[VringBase])
    .since("QEMU 2.1");

SET_VRING_KICK = 12: M::ring("Gives the notification of new buffers, and starts the ring.")
    .carries(&[VringFd])
    .attaches(0, 1, "eventfd to read; none with bit 8 set")
    .since("QEMU 2.1");

SET_VRING_CALL = 13: M::ring("Gives the notification of used buffers. At any time.")
    .carries(&[VringFd])
    .attaches(0, 1, "eventfd to write; none with bit 8 set")
    .since("QEMU 2.1");

SET_VRING_ERR = 14: M::ring("Gives the notification of errors. At any time.")
    .carries(&[VringFd])
    .attaches(0, 1, "eventfd to write; none with bit 8 set")
    .since("QEMU 2.1");

GET_PROTOCOL_FEATURES = 15: M::device("Asks for the protocol feature bits.")
    .replies(Always, &[U64])
    .needs("PROTOCOL_FEATURES (bit 30) offered", &[VirtioOffered(30)])
    .since("QEMU 2.5");

SET_PROTOCOL_FEATURES = 16: M::device("Acknowledges protocol feature bits.")
    .carries(&[U64])
    .needs("PROTOCOL_FEATURES (bit 30) offered", &[VirtioOffered(30)])
    .since("QEMU 2.5");

GET_QUEUE_NUM = 17: M::device("Asks how many queues the back-end has at most. DPDK counts pairs, others rings.")
    .replies(Always, &[U64])
    .needs("MQ offered", &[ProtocolOffered(F::Mq)])
    .since("QEMU 2.5");

SET_VRING_ENABLE = 18: M::ring("Enables or disables a ring, started or not.")
    .carries(&[VringState])
    .needs("PROTOCOL_FEATURES (bit 30) negotiated", &[Virtio(30)])
    .since("QEMU 2.5");

SEND_RARP = 19: M::device("After migration: asks for an announcement of the guest's MAC address, which the first 6 bytes carry.")
    .carries(&[U64])
    .needs("PROTOCOL_FEATURES (bit 30) and RARP offered, GUEST_ANNOUNCE (bit 21) not negotiated; net",
        &[VirtioOffered(30), ProtocolOffered(F::Rarp), VirtioAbsent(21)])
    .since("QEMU 2.5");

NET_SET_MTU = 20: M::device("Tells the MTU of the host; the status says whether it is acceptable.")
    .carries(&[U64])
    .acks(AckIfReplyAck)
    .needs("MTU (bit 3) negotiated, PROTOCOL_FEATURES (bit 30) and NET_MTU offered; net",
        &[Virtio(3), VirtioOffered(30), ProtocolOffered(F::NetMtu)])
    .since("QEMU 2.9");

SET_BACKEND_REQ_FD = 21: M::device("Gives the socket of the back-end channel.")
    .aka(&["SET_SLAVE_REQ_FD"])
    .acks(AckIfReplyAck)
    .attaches(1, 1, "a connected stream socket")
    .needs("PROTOCOL_FEATURES (bit 30) negotiated, BACKEND_REQ offered", &[Virtio(30), ProtocolOffered(F::BackendReq)])
    .since("QEMU 2.10");

IOTLB_MSG = 22: M::device("Updates or invalidates translations. May arrive while the back-end waits on its own channel.")
    .carries(&[Iotlb])
    .acks(Disputed)
    .needs("ACCESS_PLATFORM (bit 33) negotiated", &[Virtio(33)])
    .since("QEMU 2.10");

SET_VRING_ENDIAN = 23: M::ring("Sets the byte order of a legacy device's ring before it starts.")
    .carries(&[VringState])
    .needs("CROSS_ENDIAN negotiated, VERSION_1 (bit 32) not", &[Protocol(F::CrossEndian), VirtioAbsent(32)])
    .since("QEMU 2.11 or 2.12");

GET_CONFIG = 24: M::device("Reads configuration space. An error is an empty reply, or one with size 0.")
    .carries(&[Config])
    .replies(Always, &[Config, Empty])
    .needs("CONFIG negotiated", &[Protocol(F::Config)])
    .since("QEMU 2.12");

SET_CONFIG = 25: M::device("Writes configuration space.")
    .carries(&[Config])
    .needs("CONFIG negotiated", &[Protocol(F::Config)])
    .since("QEMU 2.12");

CREATE_CRYPTO_SESSION = 26: M::device("Creates a crypto session; the reply carries its id.")
    .aka(&["CRYPTO_CREATE_SESS"])
    .carries(&[CryptoSession])
    .replies(Always, &[CryptoSession])
    .needs("CRYPTO_SESSION negotiated; crypto", &[Protocol(F::CryptoSession)])
    .since("QEMU 2.12");

CLOSE_CRYPTO_SESSION = 27: M::device("Closes a crypto session.")
    .aka(&["CRYPTO_CLOSE_SESS"])
    .carries(&[U64])
    .needs("CRYPTO_SESSION negotiated; crypto", &[Protocol(F::CryptoSession)])
    .since("QEMU 2.12");

POSTCOPY_ADVISE = 28: M::device("On the destination: asks for a userfaultfd.")
    .replies(FdOnly, &[Empty])
    .returns(1, 1, "a userfaultfd")
    .needs("PAGEFAULT negotiated, CONFIGURE_MEM_SLOTS not",
        &[Protocol(F::Pagefault), ProtocolAbsent(F::ConfigureMemSlots)])
    .since("QEMU 2.12");

POSTCOPY_LISTEN = 29: M::device("On the destination: shared memory that comes from now on is to be registered with the userfaultfd. QEMU always waits for an answer.")
    .acks(Disputed)
    .needs("PAGEFAULT negotiated, CONFIGURE_MEM_SLOTS not",
        &[Protocol(F::Pagefault), ProtocolAbsent(F::ConfigureMemSlots)])
    .since("QEMU 2.12");

POSTCOPY_END = 30: M::device("On the destination: postcopy is over, the userfaultfd can go.")
    .acks(Always)
    .needs("PAGEFAULT negotiated, CONFIGURE_MEM_SLOTS not",
        &[Protocol(F::Pagefault), ProtocolAbsent(F::ConfigureMemSlots)])
    .since("QEMU 2.12");

GET_INFLIGHT_FD = 31: M::device("Asks for an area that tracks descriptors in flight; num_queues and queue_size tell what for.")
    .carries(&[Inflight])
    .replies(Always, &[Inflight])
    .returns(0, 1, "the area; none when mmap_size is 0")
    .needs("INFLIGHT_SHMFD negotiated", &[Protocol(F::InflightShmfd)])
    .since("QEMU 4.0");

SET_INFLIGHT_FD = 32: M::device("Gives the inflight area back, at every start and after a crash.")
    .carries(&[Inflight])
    .attaches(1, 1, "the area")
    .needs("INFLIGHT_SHMFD negotiated", &[Protocol(F::InflightShmfd)])
    .since("QEMU 4.0");

GPU_SET_SOCKET = 33: M::device("Gives the socket of the vhost-user-gpu protocol.")
    .attaches(1, 1, "a stream socket")
    .needs("gpu; no feature bit", &[])
    .since("QEMU 4.1");

RESET_DEVICE = 34: M::device("Resets the device and disables all rings; ownership stays.")
    .needs("RESET_DEVICE offered", &[ProtocolOffered(F::ResetDevice)])
    .since("QEMU 4.2");

VRING_KICK = 35: M::ring("Says in-band that the ring has new buffers, and starts it.")
    .carries(&[VringState])
    .needs("INBAND_NOTIFICATIONS negotiated", &[Protocol(F::InbandNotifications)])
    .since("QEMU 5.0");

GET_MAX_MEM_SLOTS = 36: M::device("Asks how many memory regions the back-end takes.")
    .replies(Always, &[U64])
    .needs("CONFIGURE_MEM_SLOTS negotiated", &[Protocol(F::ConfigureMemSlots)])
    .since("QEMU 5.1");

ADD_MEM_REG = 37: M::device("Adds a memory region.")
    .carries(&[MemReg])
    .attaches(1, 1, "the region's shared memory file")
    .needs("CONFIGURE_MEM_SLOTS negotiated", &[Protocol(F::ConfigureMemSlots)])
    .since("QEMU 5.1");

REM_MEM_REG = 38: M::device("Removes the memory region with this guest address, user address and size.")
    .carries(&[MemReg])
    .needs("CONFIGURE_MEM_SLOTS negotiated", &[Protocol(F::ConfigureMemSlots)])
    .since("QEMU 5.1");

SET_STATUS = 39: M::device("Tells the virtio device status.")
    .carries(&[U64])
    .needs("STATUS negotiated", &[Protocol(F::Status)])
    .since("QEMU 5.1 or 5.2");

GET_STATUS = 40: M::device("Asks for the virtio device status.")
    .replies(Always, &[U64])
    .needs("STATUS negotiated", &[Protocol(F::Status)])
    .since("QEMU 5.1 or 5.2");

GET_SHARED_OBJECT = 41: M::device("Asks the owner for a shared object. QEMU's request has no payload, so the UUID is lost.")
    .carries(&[SharedObject, Empty])
    .replies(FdOnly, &[Empty, SharedObject])
    .returns(0, 1, "the dma-buf; none: failure")
    .needs("SHARED_OBJECT negotiated", &[Protocol(F::SharedObject)])
    .since("QEMU 8.2");

SET_DEVICE_STATE_FD = 42: M::device("Starts the transfer of device state. Bits 0-7 of the reply: error; bit 8: no file returned.")
    .carries(&[DeviceState])
    .acks(Always)
    .attaches(1, 1, "the back-end's end of the pipe")
    .returns(0, 1, "another pipe, to be used instead")
    .needs("DEVICE_STATE negotiated", &[Protocol(F::DeviceState)])
    .since("QEMU 8.2");

CHECK_DEVICE_STATE = 43: M::device("After the end of the transfer: asks whether it succeeded.")
    .acks(Always)
    .needs("DEVICE_STATE negotiated", &[Protocol(F::DeviceState)])
    .since("QEMU 8.2");

GET_SHMEM_CONFIG = 44: M::device("Asks for the shared memory regions of the device.")
    .replies(Always, &[ShmemConfig])
    .needs("SHMEM negotiated", &[Protocol(F::Shmem)])
    .since("QEMU 11.1");

GET_VRING_BASE_SKIP_DRAIN = 45: M::ring("Stops the ring at once; requests in flight stay recorded in the inflight area.")
    .carries(&[VringState])
    .replies(Always, &[VringBase])
    .needs("GET_VRING_BASE_SKIP_DRAIN negotiated", &[Protocol(F::GetVringBaseSkipDrain)])
    .since("after QEMU 11.1");

}
