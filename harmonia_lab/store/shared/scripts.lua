-- What changes the journal in Redis: each call is one script, which Redis runs whole or not at all.
--
-- Keys, all beginning with "harmonia:":
--   row:ID          hash: what SQLite's table `generations` has, and how the generation was submitted
--   events:ID:generation, events:ID:job   streams: the lifecycle events of a family; an entry's id is "<seq>-0"
--   shares:ID       hash: user -> role             deaths:ID   set: processes that died while they made it
--   jobs, jobs:USER, shared:USER, ended            sorted sets of places, "<created at>~<id>", all of score 0
--   unfinished      hash: id -> process            pending     hash: id -> owner; those that wait for their turn
--   out             hash: folder -> the generation that was last submitted for it
--   changed         sorted set: id -> number of its last change; change counts them
--   share_changes   sorted set: id -> number of the last change of its shares; share_change counts them
--   lease:PROCESS   is there while the process lives; left:PROCESS once it has exited as it was meant to
-- The keys are made here, so this works with one Redis (or one and its replicas), not with a Redis Cluster.
local P = 'harmonia:'
local KEPT_CHANGES = 10000
local DAY = 86400

local function row(id) return P .. 'row:' .. id end
local function events(id, family) return P .. 'events:' .. id .. ':' .. family end

-- Number a change of a generation, tell the other servers that there is something to read, and return the number.
local function changed(id, channel)
  local number = redis.call('INCR', P .. 'change')
  redis.call('ZADD', P .. 'changed', number, id)
  redis.call('ZREMRANGEBYRANK', P .. 'changed', 0, -KEPT_CHANGES - 1)
  redis.call('PUBLISH', channel, number)
  return number
end

-- Put the generation into the lists of its status.
local function list(id, process, status)
  local place, owner = unpack(redis.call('HMGET', row(id), 'place', 'owner'))
  if status == 'pending' or status == 'processing' then
    redis.call('HSET', P .. 'unfinished', id, process)
    redis.call('ZREM', P .. 'ended', place)
  else
    redis.call('HDEL', P .. 'unfinished', id)
    redis.call('ZADD', P .. 'ended', 0, place)
  end
  if status == 'pending' then redis.call('HSET', P .. 'pending', id, owner) else redis.call('HDEL', P .. 'pending', id) end
end

-- Return what refuses one more waiting song of `owner`, or nil. total: 0 for no limit.
local function full(owner, total, per_user)
  if total == 0 then return nil end
  local own, waiting = 0, redis.call('HVALS', P .. 'pending')
  for _, each in ipairs(waiting) do if each == owner then own = own + 1 end end
  if #waiting >= total or own >= per_user then return {'FULL', #waiting, own} end
end

local function set_fields(id, argv, first, count)
  if count > 0 then redis.call('HSET', row(id), unpack(argv, first, first + 2 * count - 1)) end
end

local call = {}

-- channel, id, process, owner, place, again (1: it is no error that it is there), total, per user, folder, number of fields, fields
function call.begin(channel, argv)
  local id, process, owner, place, again = unpack(argv, 1, 5)
  if redis.call('EXISTS', row(id)) == 1 then return {again == '1' and 'OK' or 'TAKEN'} end
  local refused = full(owner, tonumber(argv[6]), tonumber(argv[7]))
  if refused then return refused end
  set_fields(id, argv, 10, tonumber(argv[9]))
  redis.call('HSET', row(id), 'process', process, 'owner', owner, 'place', place, 'status', 'pending', 'seq', 0, 'job_seq', 0)
  redis.call('ZADD', P .. 'jobs', 0, place)
  redis.call('ZADD', P .. 'jobs:' .. owner, 0, place)
  if argv[8] ~= '' then redis.call('HSET', P .. 'out', argv[8], id) end
  list(id, process, 'pending')
  return {'OK', changed(id, channel)}
end

-- id, process, status, number of fields, fields, then family, seq, name and payload of each event
function call.append(channel, argv)
  local id, process, status, count = argv[1], argv[2], argv[3], tonumber(argv[4])
  local owner_process, before, seq, job_seq = unpack(redis.call('HMGET', row(id), 'process', 'status', 'seq', 'job_seq'))
  if not owner_process then return {'GONE'} end
  if owner_process ~= process then return {'FENCED', owner_process} end
  local last = {generation = tonumber(seq), job = tonumber(job_seq)}
  local new = {}
  for i = 5 + 2 * count, #argv, 4 do
    local family, number, name = argv[i], tonumber(argv[i + 1]), argv[i + 2]
    if number <= last[family] then  -- handed in again after a lost answer: the same event is fine, another isn't
      local had = redis.call('XRANGE', events(id, family), number .. '-0', number .. '-0')[1]
      if not had or had[2][2] ~= name then return {'SEQ', last.generation, last.job} end
    elseif number == last[family] + 1 then
      last[family] = number
      new[#new + 1] = i
    else
      return {'SEQ', last.generation, last.job}
    end
  end
  for _, i in ipairs(new) do
    redis.call('XADD', events(id, argv[i]), argv[i + 1] .. '-0', 'name', argv[i + 2], 'payload', argv[i + 3])
  end
  if #new == 0 and #argv >= 5 + 2 * count then return {'OK', 0} end  -- all were there; so is a later state, perhaps
  set_fields(id, argv, 5, count)
  redis.call('HSET', row(id), 'seq', last.generation, 'job_seq', last.job, 'status', status)
  if status ~= before then list(id, process, status) end
  return {'OK', #new > 0 and changed(id, channel) or 0}
end

-- id, process, attempt, seq, job_seq, total, per user
function call.reopen(channel, argv)
  local id, process, attempt = unpack(argv, 1, 3)
  local status, seq, job_seq, owner = unpack(redis.call('HMGET', row(id), 'status', 'seq', 'job_seq', 'owner'))
  if status ~= 'failed' or seq ~= argv[4] or job_seq ~= argv[5] then return {'CHANGED'} end
  local refused = full(owner, tonumber(argv[6]), tonumber(argv[7]))
  if refused then return refused end
  redis.call('HSET', row(id), 'process', process, 'status', 'pending', 'attempt', attempt, 'attempt_process', process)
  list(id, process, 'pending')
  return {'OK', changed(id, channel)}
end

-- id, process, attempt: what is known of an attempt that begins
function call.attempt(_, argv)
  if redis.call('HGET', row(argv[1]), 'process') ~= argv[2] then return {'FENCED'} end
  redis.call('HSET', row(argv[1]), 'attempt', argv[3], 'attempt_process', argv[2])
  return {'OK'}
end

-- id, the process that is gone, this one, died, lease in seconds (0: its death is certain). While Redis has not been up for
-- longer than a lease, nobody is known to be dead: all leases have run out while it was away.
function call.take(channel, argv)
  local id, from, process, died, lease = unpack(argv, 1, 5)
  if tonumber(lease) > 0 then
    local up = tonumber(string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)'))
    local left = redis.call('EXISTS', P .. 'left:' .. from) == 1
    if redis.call('EXISTS', P .. 'lease:' .. from) == 1 or not (left or up > tonumber(lease)) then return {'ALIVE'} end
  end
  local owner_process, status, attempt_process = unpack(redis.call('HMGET', row(id), 'process', 'status', 'attempt_process'))
  if owner_process ~= from then return {'FENCED', owner_process or ''} end
  if died == '1' and status == 'processing' and attempt_process == from then
    redis.call('SADD', P .. 'deaths:' .. id, from)
  end
  redis.call('HSET', row(id), 'process', process)
  if status == 'pending' or status == 'processing' then redis.call('HSET', P .. 'unfinished', id, process) end
  return {'OK', changed(id, channel)}
end

-- id, user, role ("": take it back), how many users one generation can be shared with
function call.share(channel, argv)
  local id, user, role = unpack(argv, 1, 3)
  local place = redis.call('HGET', row(id), 'place')
  if not place then return {'GONE'} end
  local key = P .. 'shares:' .. id
  local had = redis.call('HGET', key, user)
  if (had or '') == role then return {'OK'} end
  if role == '' then
    redis.call('HDEL', key, user)
    redis.call('ZREM', P .. 'shared:' .. user, place)
  else
    if not had and redis.call('HLEN', key) >= tonumber(argv[4]) then return {'MANY'} end
    redis.call('HSET', key, user, role)
    redis.call('ZADD', P .. 'shared:' .. user, 0, place)
  end
  local number = redis.call('INCR', P .. 'share_change')
  redis.call('ZADD', P .. 'share_changes', number, id)
  redis.call('ZREMRANGEBYRANK', P .. 'share_changes', 0, -KEPT_CHANGES - 1)
  changed(id, channel)
  return {'OK'}
end

-- ids that are to be deleted: those that have ended, or with any = 1 whichever
function call.delete(channel, argv)
  local deleted = 0
  for i = 2, #argv do
    local id = argv[i]
    local status, place, owner, out = unpack(redis.call('HMGET', row(id), 'status', 'place', 'owner', 'out'))
    if status and (argv[1] == '1' or (status ~= 'pending' and status ~= 'processing')) then
      for _, user in ipairs(redis.call('HKEYS', P .. 'shares:' .. id)) do redis.call('ZREM', P .. 'shared:' .. user, place) end
      for _, key in ipairs({'jobs', 'jobs:' .. owner, 'ended'}) do redis.call('ZREM', P .. key, place) end
      if out and redis.call('HGET', P .. 'out', out) == id then redis.call('HDEL', P .. 'out', out) end
      redis.call('HDEL', P .. 'unfinished', id)
      redis.call('HDEL', P .. 'pending', id)
      redis.call('UNLINK', row(id), events(id, 'generation'), events(id, 'job'), P .. 'shares:' .. id, P .. 'deaths:' .. id)
      changed(id, channel)
      deleted = deleted + 1
    end
  end
  return {'OK', deleted}
end

-- process: it exits because it was meant to
function call.leave(_, argv)
  redis.call('SET', P .. 'left:' .. argv[1], 1, 'EX', DAY)
  redis.call('DEL', P .. 'lease:' .. argv[1])
  return {'OK'}
end

local arguments = {}
for i = 2, #ARGV do arguments[i - 1] = ARGV[i] end
return call[ARGV[1]](KEYS[1], arguments)
