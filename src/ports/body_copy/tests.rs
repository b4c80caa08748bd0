use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, poll, stream};
use tokio::task::JoinSet;

use super::*;

const MIB: usize = 1 << 20;

/// The parts that are not read yet, whether they are the last, and the reader that waits.
type Written = (VecDeque<io::Result<Bytes>>, bool, Option<Waker>);

/// A body that a test writes part by part; its drop ends it.
struct Writer(Arc<Mutex<Written>>);

impl Writer {
    fn new() -> (Self, BodyParts) {
        let shared = Arc::new(Mutex::new((VecDeque::new(), false, None::<Waker>)));
        let written = Arc::clone(&shared);
        let parts = stream::poll_fn(move |context| {
            let mut written = written.lock().unwrap();
            match written.0.pop_front() {
                Some(part) => Poll::Ready(Some(part)),
                None if written.1 => Poll::Ready(None),
                None => {
                    written.2 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        });
        (Self(shared), parts.boxed())
    }

    fn write(&self, part: io::Result<Vec<u8>>) {
        let mut shared = self.0.lock().unwrap();
        shared.0.push_back(part.map(Bytes::from));
        shared.2.take().into_iter().for_each(Waker::wake);
    }

    fn end(&self) {
        let mut shared = self.0.lock().unwrap();
        shared.1 = true;
        shared.2.take().into_iter().for_each(Waker::wake);
    }
}

fn body_of(bytes: usize) -> BodyParts {
    let parts: Vec<_> =
        vec![b'x'; bytes].chunks(1000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    stream::iter(parts).boxed()
}

#[tokio::test]
async fn a_body_is_copied_while_it_is_sent_up_to_64_kib_and_not_a_byte_more() {
    let budget = CopyBudget::new(MIB);
    for (bytes, copied) in [
        (0, true),
        (15, true),
        (COPIED_BYTES - 1, true),
        (COPIED_BYTES, true),
        (COPIED_BYTES + 1, false),
    ] {
        let (sent, copy) = BodyCopy::of(body_of(bytes), &budget);
        let sent: Vec<_> = sent.try_collect().await.unwrap();
        assert_eq!(sent.concat().len(), bytes);
        let whole = copy.whole().await;
        assert_eq!(whole.map(|whole| whole.len()), copied.then_some(bytes));
        assert_eq!(budget.free(), MIB);
    }
}

#[tokio::test]
async fn the_rest_of_a_body_that_still_arrives_is_read_into_the_copy_and_the_first_request_ends() {
    let budget = CopyBudget::new(MIB);
    let (writer, parts) = Writer::new();
    let (mut sent, copy) = BodyCopy::of(parts, &budget);
    writer.write(Ok(vec![b'a'; 10]));
    assert_eq!(sent.next().await.unwrap().unwrap().len(), 10);
    let mut next = sent.next();
    assert!(poll!(&mut next).is_pending());
    let mut whole = Box::pin(copy.whole());
    assert!(poll!(&mut whole).is_pending());
    writer.write(Ok(vec![b'b'; 5]));
    writer.end();
    assert_eq!(whole.await.unwrap(), [vec![b'a'; 10], vec![b'b'; 5]].concat());
    next.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_sender_that_waits_for_a_part_hears_that_its_body_is_sent_by_another_request() {
    let budget = CopyBudget::new(MIB);
    let (writer, parts) = Writer::new();
    let (mut sent, copy) = BodyCopy::of(parts, &budget);
    // Tasks of their own: each goes on only when it is woken.
    let (mut sender, mut reader) = (JoinSet::new(), JoinSet::new());
    sender.spawn(async move { sent.next().await.unwrap().unwrap_err().kind() });
    tokio::task::yield_now().await;
    reader.spawn(copy.whole());
    tokio::task::yield_now().await;
    writer.end();
    assert_eq!(reader.join_next().await.unwrap().unwrap().unwrap(), "");
    assert_eq!(sender.join_next().await.unwrap().unwrap(), io::ErrorKind::Interrupted);
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_goes_on_without_a_lost_part() {
    let budget = CopyBudget::new(MIB);
    let (mut sent, copy) = BodyCopy::of(body_of(3 * COPIED_BYTES), &budget);
    assert_eq!(sent.next().await.unwrap().unwrap().len(), 1000);
    assert_eq!(copy.whole().await, None);
    assert_eq!(budget.free(), MIB);
    let rest: Vec<_> = sent.try_collect().await.unwrap();
    assert_eq!(rest.concat().len(), 3 * COPIED_BYTES - 1000);
}

#[tokio::test]
async fn a_body_is_sent_to_its_end_after_reading_ahead_was_given_up() {
    let budget = CopyBudget::new(MIB);
    let (writer, parts) = Writer::new();
    let (sent, copy) = BodyCopy::of(parts, &budget);
    writer.write(Ok(b"one".to_vec()));
    let mut whole = Box::pin(copy.whole());
    assert!(poll!(&mut whole).is_pending());
    drop(whole);
    assert_eq!(budget.free(), MIB);
    writer.write(Ok(b"two".to_vec()));
    writer.end();
    let sent: Vec<_> = sent.try_collect().await.unwrap();
    assert_eq!(sent.concat(), b"onetwo");
}

#[tokio::test]
async fn a_body_that_fails_is_never_taken_for_a_whole_one() {
    let budget = CopyBudget::new(MIB);
    for fails_ahead in [false, true] {
        let (writer, parts) = Writer::new();
        let (mut sent, copy) = BodyCopy::of(parts, &budget);
        writer.write(Ok(b"part".to_vec()));
        writer.write(Err(io::ErrorKind::UnexpectedEof.into()));
        if fails_ahead {
            assert_eq!(copy.whole().now_or_never(), Some(None));
            assert_eq!(sent.next().await.unwrap().unwrap(), "part");
            sent.next().await.unwrap().unwrap_err();
        } else {
            assert_eq!(sent.next().await.unwrap().unwrap(), "part");
            sent.next().await.unwrap().unwrap_err();
            assert_eq!(copy.whole().await, None);
        }
        assert_eq!(budget.free(), MIB);
    }
}

#[tokio::test]
async fn beyond_the_budget_a_body_is_sent_without_a_copy() {
    let budget = CopyBudget::new(COPIED_BYTES + FIRST_BYTES);
    let (first, first_copy) = BodyCopy::of(body_of(COPIED_BYTES), &budget);
    assert_eq!(first.count().await, 66);
    assert_eq!(budget.free(), FIRST_BYTES);
    let (second, second_copy) = BodyCopy::of(body_of(FIRST_BYTES + 1), &budget);
    let sent: Vec<_> = second.try_collect().await.unwrap();
    assert_eq!(sent.concat().len(), FIRST_BYTES + 1);
    assert_eq!(second_copy.whole().await, None);
    // Bytes that are sent once more count until they are gone.
    let whole = first_copy.whole().await.unwrap();
    assert_eq!(budget.free(), FIRST_BYTES);
    drop(whole);
    assert_eq!(budget.free(), COPIED_BYTES + FIRST_BYTES);
}

#[tokio::test]
async fn the_memory_of_a_copy_is_free_as_soon_as_nobody_wants_it_and_the_body_goes_on() {
    let budget = CopyBudget::new(MIB);
    let (mut sent, copy) = BodyCopy::of(body_of(5000), &budget);
    sent.next().await.unwrap().unwrap();
    assert!(budget.free() < MIB);
    drop(copy);
    assert_eq!(budget.free(), MIB);
    assert_eq!(sent.count().await, 4);
    // The sender is dropped first where its connection breaks.
    let (mut sent, copy) = BodyCopy::of(body_of(5000), &budget);
    sent.next().await.unwrap().unwrap();
    drop(sent);
    assert_eq!(copy.whole().await.unwrap().len(), 5000);
    assert_eq!(budget.free(), MIB);
}
