"""Mistakes that somebody could make in Raft and in what stands on it, each as a patch, for trials that must find them.

`hunt` says how each of them is found. `seed` shows it in `configs/raft-trial.yaml`, where one is known.
"""

from __future__ import annotations

from tests.nodes.files.mutants import Mutant

RAFT = "nodes/raft/"
CORE, LEADER, ELECTION, LOG, MEMBERS, READS, SAVING, STORAGE, SNAPSHOTS, PROGRESS, ACTOR = (
    RAFT + f"{stem}.py"
    for stem in (
        "core", "leader", "election", "log", "members", "reads", "saving", "storage", "snapshots", "progress", "actor",
    )
)  # fmt: skip
SESSIONS, CLIENT, JOURNAL = "zactor/replication/sessions.py", "zactor/replication/client.py", "zactor/journal.py"
KV_CLIENT, LOCKS, FENCED = "nodes/kv/client.py", "nodes/kv/locks.py", "nodes/kv/fenced.py"

MUTANTS = (
    # --- elections
    Mutant(
        "votes for several in one term (5.2)",
        CORE,
        'is_free = message.term > self.term or self.voted_for in ("", source)',
        "is_free = True",
    ),
    Mutant(
        "votes for a log that lacks something (5.4.1)",
        CORE,
        "            and self.log.is_up_to_date(message.last_index, message.last_term)\n",
        "",
    ),
    Mutant(
        "a vote is sent before it is durable (5.2)",
        CORE,
        "self.send_after(source, Vote(term=self.term, is_granted=is_granted))",
        "self.send_now(source, Vote(term=self.term, is_granted=is_granted))",
    ),
    Mutant(
        "pre-votes count as votes (thesis 9.6)",
        ELECTION,
        "if message.is_pre != self.is_pre or (message.is_granted and message.term != expected):",
        "if message.is_granted and message.term != expected:",
    ),
    Mutant(
        "half of the voters is a majority",
        MEMBERS,
        "return 2 * sum(map(has, voters)) > len(voters)",
        "return 2 * sum(map(has, voters)) >= len(voters)",
    ),
    Mutant(
        "a candidate may vote for another one, too (5.2)",
        ELECTION,
        "            raft.vote_for(raft.me)\n",
        "",
    ),
    Mutant(
        "a vote is forgotten in a crash (5.2)",
        CORE,
        "return HardState(self.term, self.voted_for, *self._owed)",
        'return HardState(self.term, "", *self._owed)',
    ),
    Mutant(
        "a term is forgotten in a crash, if the log does not have it (5.1)",
        CORE,
        "return HardState(self.term, self.voted_for, *self._owed)",
        "return HardState(self.log.last_term, self.voted_for, *self._owed)",
    ),
    Mutant(
        "a candidate says that its log is longer than it is (5.4.1)",
        ELECTION,
        "            last_index=raft.log.last_index,\n",
        "            last_index=raft.log.last_index + 9,\n",
    ),
    Mutant(
        "the longer log is taken for the newer one (5.4.1)",
        LOG,
        "return (last_term, last_index) >= (self.last_term, self.last_index)",
        "return (last_index, last_term) >= (self.last_index, self.last_term)",
    ),
    # --- the log
    Mutant(
        "a peer acknowledges more than was compared (5.3)",
        CORE,
        "self.send_after(source, Appended(term=self.term, index=last))",
        "self.send_after(source, Appended(term=self.term, index=self.log.last_index))",
    ),
    Mutant(
        "members that were cut from the log stay (thesis 4.1)",
        LOG,
        "        while self._members[-1][0] >= index:\n",
        "        while self._members[-1][0] > self.last_index + 99:\n",
    ),
    Mutant(
        "what does not agree with the leader's log is kept (5.3)",
        LOG,
        "            if known is not None:\n                self.cut(index)\n",
        "            if known is not None:\n                continue\n",
    ),
    Mutant(
        "what is left of a save that had no room stays where it is",
        SAVING,
        "        self._storage.cut(self._writes[0][1])\n",
        "",
    ),
    Mutant(
        "the log before new entries is not compared (5.3)",
        CORE,
        "if self.log.term(previous) != term:",
        "if self.log.term(previous) is None:",
    ),
    Mutant(
        "whatever follows is cut, conflict or not (R4; PySyncObj)",
        LOG,
        "            if known == each.term:\n                continue\n",
        "            if known == each.term and place:\n                continue\n",
    ),
    Mutant(
        "entries are acknowledged before they are durable",
        CORE,
        "        self.send_after(source, Appended(term=self.term, index=last))\n        self.commit(",
        "        self.send_now(source, Appended(term=self.term, index=last))\n        self.commit(",
    ),
    Mutant(
        "a leader counts its own log before it is durable",
        LEADER,
        "            return self._raft.durable_index\n",
        "            return self._raft.log.last_index\n",
    ),
    Mutant(
        "what was cut while it was written counts as durable (R3)",
        CORE,
        "        self._saves = deque([(number, min(last, first_index - 1)) for number, last in self._saves])\n",
        "",
    ),
    Mutant(
        "an entry of an earlier term is committed by counting (5.4.2)",
        LEADER,
        "if reached <= raft.commit_index or raft.log.term(reached) != raft.term:",
        "if reached <= raft.commit_index:",
    ),
    Mutant(
        "a heartbeat tells a commit index that the peer may not agree to",
        LEADER,
        "commit_index = min(raft.commit_index, progress.match_index)",
        "commit_index = raft.commit_index",
        7,
    ),
    Mutant(
        "more is called committed than was compared (Figure 2)",
        CORE,
        "        self.commit(min(message.commit_index, last))\n",
        "        self.commit(min(message.commit_index, self.log.last_index))\n",
    ),
    Mutant(
        "a majority is one less",
        MEMBERS,
        "[(len(voters) - 1) // 2] if voters else 0",
        "[len(voters) // 2] if voters else 0",
    ),
    Mutant(
        "a leader of an earlier term is heeded",
        CORE,
        "        if term < self.term:\n            self._answer_older",
        "        if term < self.term and not isinstance(message, AppendEntries):\n            self._answer_older",
    ),
    Mutant(
        "what was sent to a peer counts as being there",
        PROGRESS,
        "        self.next_index = last_index + 1\n        self.inflight.append",
        "        self.next_index, self.match_index = last_index + 1, last_index\n        self.inflight.append",
    ),
    Mutant(
        "what has to wait for the disk leaves at once",
        SAVING,
        "            if last is None:\n",
        "            if last is None or len(self._writes) < 9:\n",
    ),
    Mutant(
        "what had no room on the disk is written without its beginning",
        SAVING,
        "        for hard_state, save in refused:\n",
        "        for hard_state, save in refused[1:]:\n",
    ),
    Mutant(
        "what is read of a journal is taken to be on the disk, too (fsyncgate)",
        JOURNAL,
        "                await self._disk.write(self.file, self.size, rest[: found.size])\n",
        "                pass\n",
    ),
    Mutant(
        "a torn record stays where it is",
        JOURNAL,
        "        await self.cut(self.size)\n",
        "",
    ),
    Mutant(
        "a snapshot says that it has what is only committed",
        SNAPSHOTS,
        "            index = actor.applied_index\n",
        "            index = raft.commit_index\n",
    ),
    Mutant(
        "what was lost on its way is not sent again",
        LEADER,
        "            self._remind(source, progress)\n",
        "",
    ),
    Mutant(
        "a snapshot that could not be sent is not sent again",
        SNAPSHOTS,
        "                raft.leadership.snapshot_failed(name)\n",
        "                pass\n",
    ),
    Mutant(
        "what a peer is sent next says what it has (Figure 2)",
        LEADER,
        "        return 0 if progress is None else progress.match_index\n",
        "        return 0 if progress is None else progress.next_index - 1\n",
    ),
    Mutant(
        "a new leader takes every peer to have what is committed",
        LEADER,
        "self.progress.get(name) or Progress(0, next_index",
        "self.progress.get(name) or Progress(raft.commit_index, next_index",
    ),
    Mutant(
        "a snapshot is as late as the time of day, not as the log",
        SNAPSHOTS,
        "time_ns=actor.time_ns",
        "time_ns=actor.wall_ns()",
    ),
    Mutant(
        "a heartbeat commits all that a peer has",
        CORE,
        "self.commit(min(message.commit_index, self.log.last_index))",
        "self.commit(self.log.last_index)",
    ),
    Mutant(
        "what was appended is committed",
        CORE,
        "        self.commit(min(message.commit_index, last))\n",
        "        self.commit(last)\n",
    ),
    Mutant(
        "a leader commits what it has alone",
        LEADER,
        "reached = raft.members.agreed(self._match_index)",
        "reached = raft.durable_index",
    ),
    Mutant(
        "who has been silent for a while is taken to have all",
        LEADER,
        "        return 0 if progress is None else progress.match_index\n",
        "        if progress is not None and self._raft.now_ns - progress.heard_ns > 100_000_000:\n"
        "            return self._raft.log.last_index\n"
        "        return 0 if progress is None else progress.match_index\n",
    ),
    Mutant(
        "what was acknowledged in an earlier term counts in this one",
        CORE,
        "        if term < self.term:\n            self._answer_older",
        "        if term < self.term and not (isinstance(message, Appended) and self.leadership is not None):\n"
        "            self._answer_older",
    ),
    Mutant(
        "a snapshot takes the place of a newer log",
        SNAPSHOTS,
        "if head.index <= raft.commit_index or raft.log.term(head.index) == head.term:",
        "if raft.log.term(head.index) == head.term:",
    ),
    Mutant(
        "a disk that was full once is not tried again",
        SAVING,
        "        self._actor.after(FULL_S, Retry())\n",
        "",
    ),
    # --- reads and answers
    Mutant(
        "a follower reads without asking the leader",
        READS,
        'elif message.level in ("session", "eventual") or (message.level == "bounded" and self._is_fresh(message)):',
        'elif message.level in ("session", "eventual", "bounded"):',
    ),
    Mutant(
        "who leads answers bounded reads at once",
        READS,
        'message.level == "bounded" and self._is_fresh(message)',
        'message.level == "bounded" and (self._actor.is_serving or self._is_fresh(message))',
    ),
    Mutant(
        "a bounded read is three times as old as it may be",
        READS,
        "self._actor.now_ns() - asked_ns <= message.bound_ns",
        "self._actor.now_ns() - asked_ns <= 3 * message.bound_ns",
    ),
    Mutant(
        "what the leader said is as fresh as its answer",
        READS,
        "self._known = asked_ns, index",
        "self._known = actor.now_ns(), index",
    ),
    Mutant(
        "a bounded read does not wait for what the leader said",
        READS,
        "return self._actor.applied_index >= index and self._actor.now_ns() - asked_ns <= message.bound_ns",
        "return self._actor.now_ns() - asked_ns <= message.bound_ns",
    ),
    Mutant(
        "a read of the session does not wait for what its client saw",
        READS,
        'if message.level == "session" and self._actor.applied < message.at_least:',
        'if message.level == "session" and self._actor.applied + 1 < message.at_least:',
    ),
    Mutant(
        "a question that is asked again does not say what its client has seen",
        CLIENT,
        "self._client.ask(self._message, self._target, 0.0, self._first)",
        "self._client.ask(\n"
        "            Query(body=self._message.body, level=self._message.level), self._target, 0.0, self._first\n"
        "        )",
    ),
    Mutant(
        "a read of the session that waits is answered one command too early",
        READS,
        "            self._for_commands.add(message.at_least, self._actor.now_ns() + WAIT_NS, message, later)\n",
        "            self._for_commands.add(message.at_least - 1, self._actor.now_ns() + WAIT_NS, message, later)\n",
    ),
    Mutant(
        "a client forgets what it saw in watches",
        KV_CLIENT,
        "return self._heard(op.decode_changes(answer)) if answer else None",
        "return op.decode_changes(answer) if answer else None",
    ),
    Mutant(
        "a client forgets what it saw in reads",
        KV_CLIENT,
        "            self.revision = answer.revision\n        return answer\n",
        "            pass\n        return answer\n",
    ),
    Mutant(
        "what had no room on the leader's disk is said to be refused",
        ACTOR,
        "        self._saving.on_full()\n",
        "        self._saving.on_full()\n        self._replica.refuse(self._proposed.give_up(), self._no_space())\n",
    ),
    Mutant(
        "a leader reads without asking whether it still leads (thesis 6.4)",
        LEADER,
        "        self._asked.append(token)\n",
        "        self._raft.answer_reads([token], self._raft.commit_index)\n",
    ),
    Mutant(
        "a leader tells others what is committed without asking whether it still leads",
        READS,
        "        self._turn.append((ReadIndex(), later))\n",
        "        later.reply(self._actor.applied_index)\n",
    ),
    Mutant(
        "who leads no more answers what it was asked before",
        READS,
        "            self._fail(self._rounds.pop(token))\n",
        "            self.answer([(token, self._actor.applied_index)])\n",
    ),
    Mutant(
        "a follower answers before it has what the leader named",
        READS,
        "                self._for_index.add(index, until_ns, message, later)\n",
        "                self._answer(message, later)\n",
    ),
    # --- sessions, watches, locks
    Mutant(
        "what was sent and not answered is taken for not made",
        CLIENT,
        "        return error.sent\n",
        "        return False\n",
    ),
    Mutant(
        "what a leader that was deposed had taken is taken for not made",
        CLIENT,
        "return not isinstance(error, Overloaded | NotLeader) or isinstance(error, Deposed)",
        "return not isinstance(error, Overloaded | NotLeader)",
    ),
    Mutant(
        "a leader that is deposed says that nothing was made",
        ACTOR,
        "            self._replica.refuse(self._proposed.give_up(), deposed)\n",
        "            self._replica.refuse(self._proposed.give_up(), error)\n",
    ),
    Mutant(
        "a watch that was told nothing goes on from what its client saw elsewhere",
        KV_CLIENT,
        "            if answer is None:\n                continue\n",
        "            if answer is None:\n                start = self.revision + 1\n                continue\n",
    ),
    Mutant(
        "a change that is sent again is made again",
        SESSIONS,
        "        if sequence >= self.acknowledged_below:\n            self.answers[sequence] = answers\n",
        "        if sequence > self.acknowledged_below:\n            self.answers[sequence] = answers\n",
    ),
    Mutant(
        "snapshots forget which changes were made",
        SESSIONS,
        "            session.answers.update(part.answers)\n",
        "",
    ),
    Mutant(
        "a change of a lost session is made again in another",
        CLIENT,
        "                    if submit.may_be_done:\n                        raise OutcomeUnknown",
        "                    if submit.may_be_done and client is None:\n                        raise OutcomeUnknown",
    ),
    Mutant(
        "a watch goes on after a revision that it did not show",
        KV_CLIENT,
        "            start = answer.revision + 1\n\n    async def _watched",
        "            start = answer.revision + 2\n\n    async def _watched",
    ),
    Mutant(
        "a watch begins anew at the revision that it showed",
        KV_CLIENT,
        "            start = answer.revision + 1\n\n    async def _watched",
        "            start = answer.revision\n\n    async def _watched",
    ),
    Mutant(
        "who stands before one is looked for in an old state",
        LOCKS,
        "question(op.Newest(*places(self.name), created))",
        'question(op.Newest(*places(self.name), created), level="eventual")',
    ),
    Mutant(
        "a lease lives from when it was known to be kept alive, not from when that was asked for",
        KV_CLIENT,
        "            raise LeaseLost(str(error)) from error\n        self._begun_ns = begun_ns\n",
        "            raise LeaseLost(str(error)) from error\n        self._begun_ns = self.client.door.now_ns()\n",
    ),
    Mutant(
        "a token is as old as the wish for a lock, not as the hold",
        LOCKS,
        "        self.token = created\n",
        "        self.token = self.lease.id\n",
    ),
    Mutant(
        "each peer gives entries its own time",
        ACTOR,
        "time_ns = max(self._time_ns, batch.time_ns)",
        "time_ns = max(self._time_ns, batch.time_ns, self.wall_ns())",
    ),
    Mutant(
        "a resource forgets the highest token in a crash",
        FENCED,
        "                await self._keep(message.token)\n",
        "                pass\n",
    ),
    Mutant(
        "a resource takes any token",
        FENCED,
        "if message.token < self._highest:",
        "if message.token < self._highest - 1_000_000:",
    ),
    Mutant(
        "entries bear the time of day of whoever leads",
        ACTOR,
        "        time_ns = self._clock.read(self.now_ns(), self.wall_ns())\n",
        "        time_ns = self.wall_ns()\n",
    ),
    Mutant(
        "whoever leads next sets the log to its time of day",
        ACTOR,
        "        self._serving = term\n",
        "        self._serving, self._clock = term, LogClock(0)\n",
    ),
    Mutant(
        "who follows goes on with its own clock, ahead of a leader that is drawn back",
        ACTOR,
        "            self._clock.heard(batch.time_ns, self.now_ns())\n",
        "            time_ns = max(batch.time_ns, self._clock.read(self.now_ns(), self.wall_ns()))\n"
        "            self._clock.heard(time_ns, self.now_ns())\n",
        7,
    ),
    Mutant(
        "a token is not synced before it counts",
        FENCED,
        "        await self.disk.synced()\n",
        "",
    ),
)
