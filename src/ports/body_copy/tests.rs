use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, poll, stream};
use tokio::task::JoinSet;

use super::*;

const MIB: usize = 1 << 20;

/// The unread parts, whether they are the last ones, and the waker of the waiting reader.
type Written = (VecDeque<io::Result<Bytes>>, bool, Option<Waker>);

/// A body that a test writes part by part.
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
async fn copies_a_body_of_at_most_64_kib_while_it_is_sent() {
    let budget = CopyBudget::new(MIB);
    for (bytes, copied) in [
        (0, true),
        (15, true),
        (MAX_COPY_BYTES - 1, true),
        (MAX_COPY_BYTES, true),
        (MAX_COPY_BYTES + 1, false),
    ] {
        let (sent, copy) = BodyCopy::new(body_of(bytes), &budget);
        let sent: Vec<_> = sent.try_collect().await.unwrap();
        assert_eq!(sent.concat().len(), bytes);
        let whole = copy.into_bytes().await;
        assert_eq!(whole.map(|whole| whole.len()), copied.then_some(bytes));
        assert_eq!(budget.available(), MIB);
    }
}

#[tokio::test]
async fn into_bytes_reads_the_rest_of_the_body_and_ends_the_first_request() {
    let budget = CopyBudget::new(MIB);
    let (writer, parts) = Writer::new();
    let (mut sent, copy) = BodyCopy::new(parts, &budget);
    writer.write(Ok(vec![b'a'; 10]));
    assert_eq!(sent.next().await.unwrap().unwrap().len(), 10);
    let mut next = sent.next();
    assert!(poll!(&mut next).is_pending());
    let mut whole = Box::pin(copy.into_bytes());
    assert!(poll!(&mut whole).is_pending());
    writer.write(Ok(vec![b'b'; 5]));
    writer.end();
    assert_eq!(whole.await.unwrap(), [vec![b'a'; 10], vec![b'b'; 5]].concat());
    next.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn waiting_sender_is_woken_when_another_request_sends_the_body() {
    let budget = CopyBudget::new(MIB);
    let (writer, parts) = Writer::new();
    let (mut sent, copy) = BodyCopy::new(parts, &budget);
    // Separate tasks: each continues only when it is woken.
    let (mut sender, mut reader) = (JoinSet::new(), JoinSet::new());
    sender.spawn(async move { sent.next().await.unwrap().unwrap_err().kind() });
    tokio::task::yield_now().await;
    reader.spawn(copy.into_bytes());
    tokio::task::yield_now().await;
    writer.end();
    assert_eq!(reader.join_next().await.unwrap().unwrap().unwrap(), "");
    assert_eq!(sender.join_next().await.unwrap().unwrap(), io::ErrorKind::Interrupted);
}

#[tokio::test]
async fn too_long_body_is_sent_completely() {
    let budget = CopyBudget::new(MIB);
    let (mut sent, copy) = BodyCopy::new(body_of(3 * MAX_COPY_BYTES), &budget);
    assert_eq!(sent.next().await.unwrap().unwrap().len(), 1000);
    assert_eq!(copy.into_bytes().await, None);
    assert_eq!(budget.available(), MIB);
    let rest: Vec<_> = sent.try_collect().await.unwrap();
    assert_eq!(rest.concat().len(), 3 * MAX_COPY_BYTES - 1000);
}

#[tokio::test]
async fn body_is_sent_completely_after_reading_ahead_was_cancelled() {
    let budget = CopyBudget::new(MIB);
    let (writer, parts) = Writer::new();
    let (sent, copy) = BodyCopy::new(parts, &budget);
    writer.write(Ok(b"one".to_vec()));
    let mut whole = Box::pin(copy.into_bytes());
    assert!(poll!(&mut whole).is_pending());
    drop(whole);
    assert_eq!(budget.available(), MIB);
    writer.write(Ok(b"two".to_vec()));
    writer.end();
    let sent: Vec<_> = sent.try_collect().await.unwrap();
    assert_eq!(sent.concat(), b"onetwo");
}

#[tokio::test]
async fn failed_body_is_never_returned_as_complete() {
    let budget = CopyBudget::new(MIB);
    for fails_ahead in [false, true] {
        let (writer, parts) = Writer::new();
        let (mut sent, copy) = BodyCopy::new(parts, &budget);
        writer.write(Ok(b"part".to_vec()));
        writer.write(Err(io::ErrorKind::UnexpectedEof.into()));
        if fails_ahead {
            assert_eq!(copy.into_bytes().now_or_never(), Some(None));
            assert_eq!(sent.next().await.unwrap().unwrap(), "part");
            sent.next().await.unwrap().unwrap_err();
        } else {
            assert_eq!(sent.next().await.unwrap().unwrap(), "part");
            sent.next().await.unwrap().unwrap_err();
            assert_eq!(copy.into_bytes().await, None);
        }
        assert_eq!(budget.available(), MIB);
    }
}

#[tokio::test]
async fn body_is_sent_without_a_copy_if_the_budget_is_used_up() {
    let budget = CopyBudget::new(MAX_COPY_BYTES + INITIAL_COPY_BYTES);
    let (first, first_copy) = BodyCopy::new(body_of(MAX_COPY_BYTES), &budget);
    assert_eq!(first.count().await, 66);
    assert_eq!(budget.available(), INITIAL_COPY_BYTES);
    let (second, second_copy) = BodyCopy::new(body_of(INITIAL_COPY_BYTES + 1), &budget);
    let sent: Vec<_> = second.try_collect().await.unwrap();
    assert_eq!(sent.concat().len(), INITIAL_COPY_BYTES + 1);
    assert_eq!(second_copy.into_bytes().await, None);
    // Bytes that are sent once more count until they are dropped.
    let whole = first_copy.into_bytes().await.unwrap();
    assert_eq!(budget.available(), INITIAL_COPY_BYTES);
    drop(whole);
    assert_eq!(budget.available(), MAX_COPY_BYTES + INITIAL_COPY_BYTES);
}

#[tokio::test]
async fn dropping_the_copy_frees_its_memory_and_the_body_is_still_sent() {
    let budget = CopyBudget::new(MIB);
    let (mut sent, copy) = BodyCopy::new(body_of(5000), &budget);
    sent.next().await.unwrap().unwrap();
    assert!(budget.available() < MIB);
    drop(copy);
    assert_eq!(budget.available(), MIB);
    assert_eq!(sent.count().await, 4);
    // A broken connection drops the sender first.
    let (mut sent, copy) = BodyCopy::new(body_of(5000), &budget);
    sent.next().await.unwrap().unwrap();
    drop(sent);
    assert_eq!(copy.into_bytes().await.unwrap().len(), 5000);
    assert_eq!(budget.available(), MIB);
}
