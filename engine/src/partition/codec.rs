//! Little-endian encoding of commands and rows. Decoding is total: any bytes give a value or an error.

use bytes::Bytes;
use columba_wire::{ChatId, DeviceAddress, DeviceId, InviteSecret, MessageSeq, UserId};

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

    fn put_varint(&mut self, value: u64) {
        let mut varint = [0; VARINT_BYTES_MAX];
        let bytes = put_varint(&mut varint, value);
        self.out().extend_from_slice(&varint[..bytes]);
    }

    fn put_bytes(&mut self, value: &[u8]) {
        self.put_u32(u32::try_from(value.len()).expect("fields are far below 4 GiB"));
        self.out().extend_from_slice(value);
    }

    fn put_user(&mut self, user: UserId) {
        self.out().extend_from_slice(user.as_bytes());
    }

    /// Users, ascending.
    fn put_users(&mut self, users: &[UserId]) {
        debug_assert!(ascends(users), "lists of users are in order");
        self.put_u32(u32::try_from(users.len()).expect("bounded"));
        users.iter().for_each(|user| self.put_user(*user));
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

/// Whether users are in order, each once.
pub(crate) fn ascends(users: &[UserId]) -> bool {
    users.windows(2).all(|pair| pair[0] < pair[1])
}

/// Takes fields off the front of a buffer; byte fields are slices of it.
pub(crate) struct Take {
    bytes: Bytes,
    /// What is taken next. Not a shorter `bytes`: a slice of it is counted in memory that other cores share.
    at: usize,
    /// Of the part that is taken now.
    end: usize,
    what: &'static str,
}

impl Take {
    pub(crate) fn new(bytes: Bytes, what: &'static str) -> Self {
        Self { at: 0, end: bytes.len(), bytes, what }
    }

    pub(crate) const fn malformed(&self, reason: &'static str) -> Error {
        Error::Malformed { what: self.what, reason }
    }

    /// What is left of the part.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..self.end]
    }

    /// Leaves so many bytes of the rest.
    pub(crate) fn skip_to_rest(&mut self, rest: usize) {
        assert!(rest <= self.end - self.at, "a rest is not longer than before");
        self.at = self.end - rest;
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(array) = self.rest().first_chunk::<N>().copied() else {
            return Err(self.malformed("it ends early"));
        };
        self.at += N;
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

    pub(crate) fn take_varint(&mut self) -> Result<u64> {
        let mut rest = &self.bytes[self.at..self.end];
        let Some(value) = take_varint(&mut rest) else {
            return Err(self.malformed("a number is no varint"));
        };
        self.skip_to_rest(rest.len());
        Ok(value)
    }

    pub(crate) fn take_key(&mut self) -> Result<[u8; 32]> {
        self.array()
    }

    pub(crate) fn take_invite_secret(&mut self) -> Result<InviteSecret> {
        Ok(InviteSecret::from_bytes(self.array()?))
    }

    pub(crate) fn take_signature(&mut self) -> Result<[u8; 64]> {
        self.array()
    }

    fn take_len(&mut self) -> Result<usize> {
        let len = self.take_u32()? as usize;
        if len > self.end - self.at {
            return Err(self.malformed("a field is longer than the rest"));
        }
        Ok(len)
    }

    pub(crate) fn take_bytes(&mut self) -> Result<Bytes> {
        let len = self.take_len()?;
        self.at += len;
        Ok(self.bytes.slice(self.at - len..self.at))
    }

    /// A part with its length before it; `take` takes all of it.
    pub(crate) fn take_part<T>(&mut self, take: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let len = self.take_len()?;
        let end = core::mem::replace(&mut self.end, self.at + len);
        let part = take(self)?;
        self.finish()?;
        self.end = end;
        Ok(part)
    }

    pub(crate) fn take_string(&mut self) -> Result<String> {
        let bytes = self.take_bytes()?;
        String::from_utf8(bytes.into()).map_err(|_| self.malformed("text is not UTF-8"))
    }

    pub(crate) fn take_bool(&mut self) -> Result<bool> {
        match self.take_u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn take_user(&mut self) -> Result<UserId> {
        Ok(UserId::from_bytes(self.array()?))
    }

    /// Users that ascend.
    pub(crate) fn take_users(&mut self) -> Result<Vec<UserId>> {
        let count = self.take_count(16)?;
        let users = (0..count).map(|_| self.take_user()).collect::<Result<Vec<_>>>()?;
        if ascends(&users) { Ok(users) } else { Err(self.malformed("its users do not ascend")) }
    }

    pub(crate) fn take_chat(&mut self) -> Result<ChatId> {
        Ok(ChatId::from_bytes(self.array()?))
    }

    pub(crate) fn take_seq(&mut self) -> Result<MessageSeq> {
        Ok(MessageSeq::new(self.take_u64()?))
    }

    pub(crate) fn take_short_seq(&mut self) -> Result<MessageSeq> {
        Ok(MessageSeq::new(self.take_varint()?))
    }

    pub(crate) fn take_device(&mut self) -> Result<DeviceAddress> {
        let user = self.take_user()?;
        Ok(DeviceAddress { user, device: self.take_device_id()? })
    }

    pub(crate) fn take_device_id(&mut self) -> Result<DeviceId> {
        DeviceId::new(self.take_u32()?).map_err(|_| self.malformed("a device is none"))
    }

    /// A count of items that take at least `item_bytes_min` each: never more than the rest can hold.
    pub(crate) fn take_count(&mut self, item_bytes_min: usize) -> Result<usize> {
        let count = self.take_u32()? as usize;
        if count > (self.end - self.at) / item_bytes_min {
            return Err(self.malformed("a count is larger than the rest can hold"));
        }
        Ok(count)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.at == self.end
    }

    pub(crate) fn finish(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(self.malformed("bytes are left over")) }
    }
}

/// Bytes of 64 bits, seven a byte.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Seven bits a byte, lowest first; the top bit says that more follow.
pub(crate) fn put_varint(out: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = 0x80 | (value & 0x7f) as u8;
        value >>= 7;
        at += 1;
    }
    out[at] = (value & 0x7f) as u8;
    at + 1
}

pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            // A last byte of zero would be a second form of the same number.
            return (*byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

/// A difference modulo 2^64 as a number that is small where the difference is, up or down.
pub(crate) const fn zigzag(difference: u64) -> u64 {
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    (difference << 1) ^ sign
}

pub(crate) const fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}
