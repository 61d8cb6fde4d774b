//! Every way in which a conversation can fail is an error, and never an empty or partial success.

use nix::errno::Errno;
use proptest::prelude::*;

use super::scripted::{Answer, Scene, Scripted};
use super::*;
use crate::attributes::Malformed;

const OBJECT: u16 = 24;

fn request() -> Request {
    Request { message_type: OBJECT, flags: 0, body: vec![0; 12] }
}

fn connect(pace: Pace, scenes: impl IntoIterator<Item = Scene>) -> Connection<Scripted> {
    Connection::new(Scripted::new(pace, scenes))
}

fn batch_of(count: usize, pace: Pace, scene: Scene) -> Result<Vec<Result<(), Refusal>>, Error> {
    connect(pace, [scene]).batch(vec![request(); count])
}

fn read(scenes: Vec<Scene>) -> Result<Vec<Vec<u8>>, Error> {
    dump(&mut connect(Pace::WIDE, scenes))
}

fn dump(connection: &mut Connection<Scripted>) -> Result<Vec<Vec<u8>>, Error> {
    connection.dump("things", &request(), |frame| match frame.payload.first() {
        Some(0xff) => Err(Malformed("0xff".to_owned())),
        _ => Ok(Some(frame.payload.to_vec())),
    })
}

fn object(byte: u8) -> Answer {
    Answer::object(OBJECT, &[byte, 0, 0, 0])
}

#[test]
fn refusals_keep_their_place_errno_and_the_kernels_words() {
    let answers = vec![
        Answer::refusal(1, Errno::EINVAL, Some("Nexthop id does not exist")),
        Answer::refusal(2, Errno::EEXIST, None),
        Answer::acknowledgement(3),
    ];
    let results = batch_of(4, Pace::WIDE, Scene::Answer(answers)).unwrap();
    let invalid =
        Refusal { index: 1, errno: libc::EINVAL, message: Some("Nexthop id does not exist".to_owned()) };
    let exists = Refusal { index: 2, errno: libc::EEXIST, message: None };
    assert_eq!(invalid.to_string(), "Nexthop id does not exist (EINVAL)");
    assert_eq!(exists.to_string(), "File exists (EEXIST)");
    assert_eq!(results, [Ok(()), Err(invalid), Err(exists), Ok(())]);
}

#[test]
fn the_text_is_found_behind_an_echoed_request() {
    // Without NETLINK_CAP_ACK the kernel returns the request before the attributes.
    let mut payload = (-libc::EPERM).to_ne_bytes().to_vec();
    payload.extend(28_u32.to_ne_bytes());
    payload.extend([0xaa; 24]);
    payload.extend([9, 0, 1, 0, b'n', b'o', b'p', b'e', 0, 0, 0, 0]);
    let answer = Answer {
        message_type: netlink_packet_core::NLMSG_ERROR,
        flags: netlink_packet_core::NLM_F_ACK_TLVS,
        to: 0,
        payload,
    };
    let results = batch_of(1, Pace::WIDE, Scene::Answer(vec![answer])).unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().message.as_deref(), Some("nope"));
}

#[test]
fn a_batch_that_is_not_answered_is_a_time_out() {
    for pace in [Pace::WIDE, Pace::NARROW] {
        let error = connect(pace, []).batch([request()]).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
    }
}

#[test]
fn each_failure_of_receiving_has_its_name() {
    let fails = |scene: Scene| {
        let batch = batch_of(3, Pace::WIDE, scene.clone()).unwrap_err();
        let dump = read(vec![scene]).unwrap_err();
        assert_eq!(std::mem::discriminant(&batch), std::mem::discriminant(&dump));
        batch
    };
    assert!(matches!(fails(Scene::ReceiveError(Errno::ENOBUFS)), Error::Overrun));
    assert!(matches!(fails(Scene::ReceiveError(Errno::EBADF)), Error::Closed));
    assert!(matches!(fails(Scene::ReceiveError(Errno::EIO)), Error::Receive(_)));
    assert!(matches!(fails(Scene::EndOfStream), Error::Closed));
    assert!(matches!(fails(Scene::Truncated), Error::Truncated { length: 100_000, .. }));
    assert!(matches!(fails(Scene::Bytes(vec![1, 2, 3])), Error::Malformed { .. }));
}

#[test]
fn each_failure_of_sending_has_its_name() {
    let fails = |error| {
        let mut connection = connect(Pace::WIDE, [Scene::Answer(vec![Answer::acknowledgement(0)])]);
        connection.socket.send_error = Some(error);
        connection.batch([request()]).unwrap_err()
    };
    assert!(matches!(fails(Errno::EMSGSIZE), Error::TooLarge { length: 28 }));
    assert!(matches!(fails(Errno::EBADF), Error::Closed));
    assert!(matches!(fails(Errno::ENOBUFS), Error::Send { length: 28, .. }));

    let mut connection = connect(Pace::WIDE, [Scene::Answer(vec![Answer::acknowledgement(0)])]);
    connection.socket.take_at_most = 20;
    let error = connection.batch([request()]).unwrap_err();
    assert!(matches!(error, Error::ShortSend { sent: 20, expected: 28 }));
}

#[test]
fn an_answer_to_another_question_is_an_error() {
    let error = batch_of(2, Pace::WIDE, Scene::Answer(vec![Answer::acknowledgement(2)])).unwrap_err();
    assert!(matches!(error, Error::Sequence { .. }), "{error}");
    let stranger = Answer { to: 7, ..object(1) };
    let error = read(vec![Scene::Answer(vec![stranger])]).unwrap_err();
    assert!(matches!(error, Error::Sequence { .. }), "{error}");
}

#[test]
fn where_each_message_asks_a_missing_acknowledgement_is_an_error() {
    let answers = vec![Answer::acknowledgement(0), Answer::acknowledgement(2)];
    let error = batch_of(3, Pace::NARROW, Scene::Answer(answers)).unwrap_err();
    assert!(matches!(error, Error::Unanswered { missing: 1, sent: 3, first: 1 }), "{error}");
}

#[test]
fn a_failed_chunk_ends_the_batch() {
    let mut connection = connect(
        Pace { messages: 2, acknowledge: Acknowledge::Last },
        [Scene::Answer(vec![Answer::acknowledgement(1)]), Scene::ReceiveError(Errno::ENOBUFS)],
    );
    let error = connection.batch(vec![request(); 6]).unwrap_err();
    assert!(matches!(error, Error::Overrun));
    assert_eq!(connection.socket.sent.len(), 2, "the third chunk was not sent");
}

#[test]
fn what_a_failed_exchange_left_is_not_taken_for_an_answer() {
    let mut connection = connect(Pace::WIDE, [Scene::ReceiveError(Errno::ENOBUFS)]);
    connection.batch([request()]).unwrap_err();
    // Late answers to the first batch, then the end of the queue, then the answer to the second.
    connection.socket.scenes.extend([
        Scene::Answer(vec![Answer::refusal(0, Errno::EINVAL, None)]),
        Scene::ReceiveError(Errno::EAGAIN),
        Scene::Answer(vec![Answer::acknowledgement(0)]),
    ]);
    assert_eq!(connection.batch([request()]).unwrap(), [Ok(())]);
}

#[test]
fn a_dump_returns_what_stands_before_its_end() {
    let scenes = vec![
        Scene::Answer(vec![object(1), object(2)]),
        Scene::Answer(vec![object(3), Answer::done(0, None)]),
    ];
    assert_eq!(read(scenes).unwrap(), [[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]]);
}

#[test]
fn a_dump_without_an_end_is_an_error() {
    let error = read(vec![Scene::Answer(vec![object(1), object(2)])]).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[test]
fn an_error_inside_the_end_of_a_dump_is_an_error() {
    let done = Answer::done(-libc::EINVAL, Some("Invalid values in header for neighbor dump request"));
    let error = read(vec![Scene::Answer(vec![object(1), done])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the things: Invalid values in header for neighbor dump request (EINVAL)"
    );
}

#[test]
fn an_error_instead_of_a_dump_is_an_error() {
    let error = read(vec![Scene::Answer(vec![Answer::refusal(0, Errno::EBUSY, None)])]).unwrap_err();
    assert!(matches!(error, Error::Dump { refusal: Refusal { errno: libc::EBUSY, .. }, .. }));
    let error = read(vec![Scene::Answer(vec![Answer::acknowledgement(0)])]).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "an acknowledgement is no dump: {error}");
    let overrun = Answer::object(netlink_packet_core::NLMSG_OVERRUN, &[]);
    assert!(matches!(read(vec![Scene::Answer(vec![overrun])]).unwrap_err(), Error::Overrun));
}

#[test]
fn an_object_that_cannot_be_decoded_spoils_the_dump() {
    let error = read(vec![Scene::Answer(vec![object(0xff), Answer::done(0, None)])]).unwrap_err();
    assert!(matches!(error, Error::Malformed { reading: Some("things"), .. }), "{error}");
}

fn interrupted() -> Scene {
    let torn = object(9).with_flag(netlink_packet_core::NLM_F_DUMP_INTR);
    Scene::Answer(vec![torn, Answer::done(0, None)])
}

#[test]
fn an_interrupted_dump_is_taken_again() {
    let whole = Scene::Answer(vec![object(1), Answer::done(0, None)]);
    let mut connection = connect(Pace::WIDE, [interrupted(), interrupted(), whole]);
    assert_eq!(dump(&mut connection).unwrap(), [[1, 0, 0, 0]]);
    assert_eq!(connection.socket.sent.len(), 3);
}

#[test]
fn a_dump_that_is_always_interrupted_is_an_error() {
    let mut connection = connect(Pace::WIDE, std::iter::repeat_n(interrupted(), 20));
    let error = dump(&mut connection).unwrap_err();
    assert!(matches!(error, Error::Interrupted { reading: "things", attempts: 10 }), "{error}");
}

#[test]
fn only_the_end_of_a_dump_may_carry_the_mark() {
    let done = Answer::done(0, None).with_flag(netlink_packet_core::NLM_F_DUMP_INTR);
    let torn = Scene::Answer(vec![object(9), done]);
    let whole = Scene::Answer(vec![object(1), Answer::done(0, None)]);
    assert_eq!(read(vec![torn, whole]).unwrap(), [[1, 0, 0, 0]]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the size of batch and chunk, every refusal comes back in its place and every other is done.
    #[test]
    fn every_message_has_its_own_result(count in 0_usize..2_000, messages in 1_usize..300, each: bool) {
        let refuse = |place: usize| place % 7 == 3;
        let acknowledge = if each { Acknowledge::Each } else { Acknowledge::Last };
        let pace = Pace { messages, acknowledge };
        let mut connection = connect(pace, []);
        connection.socket.refuse = Some(refuse);
        let results = connection.batch(vec![request(); count]).unwrap();
        prop_assert_eq!(results.len(), count);
        for (place, result) in results.iter().enumerate() {
            match result {
                Ok(()) => prop_assert!(!refuse(place)),
                Err(refusal) => prop_assert!(refuse(place) && refusal.index == place),
            }
        }
        for datagram in &connection.socket.sent {
            prop_assert!(datagram.len() <= messages);
            prop_assert!(datagram.last().unwrap().1, "the last message asks");
            prop_assert!(!each || datagram.iter().all(|(_, asked)| *asked));
        }
    }

    /// No bytes at all make the reading panic or end without a result.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for frame in frames(&bytes).flatten() {
            let _ = frame.acknowledgement();
            let _ = frame.completion();
            let _ = crate::link::Link::decode(&frame);
        }
    }
}

/// A connection whose receive buffer is the kernel's smallest usual one, in a namespace of its own.
fn with_small_buffer(pace: Pace, test: impl FnOnce(&mut Connection<KernelSocket>) + Send) {
    let namespace = match crate::Namespace::create() {
        Ok(namespace) => namespace,
        Err(error) => return skip::skip(error),
    };
    let run = || {
        let mut connection = Connection::new(KernelSocket::open().unwrap());
        connection.pace = pace;
        // The kernel doubles it.
        nix::sys::socket::setsockopt(connection.socket(), nix::sys::socket::sockopt::RcvBuf, &106_496)
            .unwrap();
        test(&mut connection);
    };
    namespace.run(run).unwrap();
}

/// Deletions of devices that do not exist: each is refused.
fn refused(count: usize) -> Vec<Request> {
    (0..count).map(|n| crate::LinkChange::deletion(1_000 + n as u32)).collect()
}

#[test]
fn answers_that_overrun_a_real_buffer_are_an_error_and_the_next_batch_is_clean() {
    with_small_buffer(Pace { messages: 2_000, acknowledge: Acknowledge::Each }, |connection| {
        let error = connection.batch(refused(2_000)).unwrap_err();
        assert!(matches!(error, Error::Overrun), "{error}");
        let results = connection.batch(refused(3)).unwrap();
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 3);
    });
}

#[test]
fn small_chunks_never_overrun_a_small_buffer() {
    with_small_buffer(Pace::NARROW, |connection| {
        let results = connection.batch(refused(5_000)).unwrap();
        for (place, result) in results.into_iter().enumerate() {
            let refusal = result.unwrap_err();
            assert!(refusal.is_absent() && refusal.index == place);
        }
    });
}

#[test]
fn a_message_larger_than_the_send_buffer_is_an_error() {
    with_small_buffer(Pace::WIDE, |connection| {
        let large = Request { body: vec![0; 2_000_000], ..request() };
        let error = connection.batch([large]).unwrap_err();
        assert!(matches!(error, Error::TooLarge { length: 2_000_016 }), "{error}");
        assert_eq!(connection.batch(refused(1)).unwrap().len(), 1);
    });
}
