//! The memory charge of a request. A request is unauthorized until a policy permits it.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::HeaderMap;

use super::{ClientSlot, IntakeExhausted, Reservation};

/// The cost of a request besides its headers and its body: its task and its stream of HTTP/2 (measured: 5 KiB).
const REQUEST_BYTES: usize = 6 * 1024;

/// The cost of a header besides its name and value: its entries in `http::HeaderMap`, which has spare capacity.
const HEADER_BYTES: usize = 160;

/// The bytes that a request holds, and the slot of its connection. The first permitted decision releases both.
///
/// The default holds nothing. It is for a nested request whose outer request is charged.
#[derive(Debug, Default)]
pub struct RequestCharge {
    held: Mutex<Option<Reservation>>,
    slot: Option<ClientSlot>,
}

impl RequestCharge {
    /// Charges a request of `client` on the connection of `slot` to the budget. `unread` is the number of body bytes
    /// that may wait to be read.
    ///
    /// # Errors
    /// If the budget has no room for it.
    pub fn begin(
        slot: ClientSlot,
        client: IpAddr,
        headers: &HeaderMap,
        unread: usize,
    ) -> Result<Self, IntakeExhausted> {
        let mut reservation = slot.reservation_of(client);
        reservation.grow(REQUEST_BYTES + size_of(headers) + unread)?;
        Ok(Self { held: Mutex::new(Some(reservation)), slot: Some(slot) })
    }

    /// Charges more bytes of the request.
    ///
    /// # Errors
    /// If the budget has no room for them.
    pub fn grow(&self, bytes: usize) -> Result<(), IntakeExhausted> {
        self.lock().as_mut().map_or(Ok(()), |reservation| reservation.grow(bytes))
    }

    /// Releases the charge and the slot, because a policy permitted the request.
    pub fn permit(&self) {
        if let Some(slot) = &self.slot {
            slot.permit();
            let charged = self.lock().take();
            if let Some(reservation) = charged {
                reservation.permit();
            }
        }
    }

    /// Returns whether the request still holds a charge.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reservation>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(headers: &HeaderMap) -> usize {
    let lines = headers.iter();
    lines.map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES).sum()
}
