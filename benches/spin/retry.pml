/* Two ends of one socket, each with one operation that wants an answer, timers of the regime "slow" (SPIN's own `timeout` is just
 * that: nothing else can happen). Written from the assumptions, for a comparison with `vuh explore`: same verdict, and how long
 * both take.
 *
 * To be given with -D: FRONT_DROPS and BACK_DROPS (1: a request that comes while waiting is dropped, 0: served), FRONT_TIMER and
 * BACK_TIMER (1: sent again after a time-out), RESENDS (255: without bound).
 *
 * P1: the front-end asks GET_FEATURES, the back-end SET_FEATURES with ack; P2: both SET_FEATURES with ack. They differ only in who
 * has a timer.
 */

#define IDLE 0
#define WAITING 1
#define REQUEST 1
#define REPLY 2
#define FINE 1
#define FAILED 2
#define UNBOUNDED 255

chan to[2] = [16] of { byte };
bit phase[2];
bit done[2];
byte sent[2];
byte outcome[2];
byte applied[2];

#define drops(who) ((who == 0 && FRONT_DROPS) || (who == 1 && BACK_DROPS))
#define timed(who) ((who == 0 && FRONT_TIMER) || (who == 1 && BACK_TIMER))
#define finished (done[0] && done[1] && empty(to[0]) && empty(to[1]))

active [2] proctype End()
{
	byte kind;

	do
	:: atomic { phase[_pid] == IDLE && !done[_pid] ->
		to[1 - _pid]!REQUEST;
		phase[_pid] = WAITING
	}
	:: atomic { nempty(to[_pid]) ->
		to[_pid]?kind;
		if
		:: kind == REPLY && phase[_pid] == WAITING ->
			outcome[_pid] = FINE;
			phase[_pid] = IDLE;
			done[_pid] = 1;
			sent[_pid] = 0
		:: kind == REPLY && phase[_pid] == IDLE -> skip
		:: kind == REQUEST && phase[_pid] == WAITING && drops(_pid) -> skip
		:: kind == REQUEST && !(phase[_pid] == WAITING && drops(_pid)) ->
			applied[1 - _pid] = (applied[1 - _pid] < 2 -> applied[1 - _pid] + 1 : 2);
			to[1 - _pid]!REPLY
		fi;
		kind = 0
	}
	:: atomic { timeout && phase[_pid] == WAITING && timed(_pid) ->
		if
		:: RESENDS == UNBOUNDED ->
			to[1 - _pid]!REQUEST
		:: RESENDS != UNBOUNDED && sent[_pid] < RESENDS ->
			sent[_pid] = sent[_pid] + 1;
			to[1 - _pid]!REQUEST
		:: RESENDS != UNBOUNDED && sent[_pid] >= RESENDS ->
			outcome[_pid] = FAILED;
			phase[_pid] = IDLE;
			done[_pid] = 1;
			sent[_pid] = 0
		fi
	}
	:: finished -> break
	od
}
