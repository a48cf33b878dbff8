//! Little-endian encoding of commands and rows. Decoding is total: any bytes give a value or an error.

use bytes::Bytes;
use columba_wire::{ChatId, DeviceAddress, DeviceId, MessageSeq, UserId};

use crate::error::{Error, Result};

/// Appends fields to a buffer.
pub(crate) trait Put {
    /// The buffer.
    fn out(&mut self) -> &mut Vec<u8>;

    fn put_u8(&mut self, value: u8) {
        self.out().push(value);
    }

    fn put_u32(&mut self, value: u32) {
        self.out().extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.out().extend_from_slice(&value.to_le_bytes());
    }

    fn put_bytes(&mut self, value: &[u8]) {
        self.put_u32(u32::try_from(value.len()).expect("fields are far below 4 GiB"));
        self.out().extend_from_slice(value);
    }

    fn put_user(&mut self, user: UserId) {
        self.out().extend_from_slice(user.as_bytes());
    }

    fn put_chat(&mut self, chat: ChatId) {
        self.out().extend_from_slice(chat.as_bytes());
    }

    fn put_seq(&mut self, seq: MessageSeq) {
        self.put_u64(seq.get());
    }

    fn put_device(&mut self, address: DeviceAddress) {
        self.put_user(address.user);
        self.put_u32(address.device.get());
    }
}

impl Put for Vec<u8> {
    fn out(&mut self) -> &mut Vec<u8> {
        self
    }
}

/// Takes fields off the front of a buffer; byte fields are slices of it.
pub(crate) struct Take {
    bytes: Bytes,
    what: &'static str,
}

impl Take {
    pub(crate) fn new(bytes: Bytes, what: &'static str) -> Self {
        Self { bytes, what }
    }

    fn malformed(&self, reason: &'static str) -> Error {
        Error::Malformed { what: self.what, reason }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(array) = self.bytes.first_chunk::<N>().copied() else {
            return Err(self.malformed("it ends early"));
        };
        let _ = self.bytes.split_to(N);
        Ok(array)
    }

    pub(crate) fn take_u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn take_u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn take_u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn take_key(&mut self) -> Result<[u8; 32]> {
        self.array()
    }

    pub(crate) fn take_bytes(&mut self) -> Result<Bytes> {
        let len = self.take_u32()? as usize;
        if len > self.bytes.len() {
            return Err(self.malformed("a field is longer than the rest"));
        }
        Ok(self.bytes.split_to(len))
    }

    pub(crate) fn take_string(&mut self) -> Result<String> {
        let bytes = self.take_bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| self.malformed("text is not UTF-8"))
    }

    pub(crate) fn take_user(&mut self) -> Result<UserId> {
        Ok(UserId::from_bytes(self.array()?))
    }

    pub(crate) fn take_chat(&mut self) -> Result<ChatId> {
        Ok(ChatId::from_bytes(self.array()?))
    }

    pub(crate) fn take_seq(&mut self) -> Result<MessageSeq> {
        Ok(MessageSeq::new(self.take_u64()?))
    }

    pub(crate) fn take_device(&mut self) -> Result<DeviceAddress> {
        let user = self.take_user()?;
        let device = DeviceId::new(self.take_u32()?).map_err(|_| self.malformed("device 0"))?;
        Ok(DeviceAddress { user, device })
    }

    /// A count of items that take at least `item_bytes_min` each: never more than the rest can hold.
    pub(crate) fn take_count(&mut self, item_bytes_min: usize) -> Result<usize> {
        let count = self.take_u32()? as usize;
        if count > self.bytes.len() / item_bytes_min {
            return Err(self.malformed("a count is larger than the rest can hold"));
        }
        Ok(count)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn finish(self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.malformed("bytes are left over")) }
    }
}
