-- Write what a collection fetched of some workers: of each the datapoints into the ledger, the condition, the pending
-- mark (unless the evaluation may wait), and the event on the channel.
-- Returns for each 'accepted', 'repeated' (the slot was complete: new datapoints were kept, nothing was announced),
-- 'gone' (the worker does not exist with this incarnation: nothing was written), or 'failed' (what is stored of it
-- cannot be used). If there is only one sample, the script fails with the error itself.
local pending = KEYS[1]                -- zset: pending workers by the time they were marked
local rollups_due = KEYS[2]            -- zset: "<worker> <hour>" by the time of the hour's roll-up
local hashes_at = 3                    -- KEYS[hashes_at], …: hashes: each worker, and the ledger's hours of its sample
local force = ARGV[1] == '1'           -- write even if the slot is complete
local retention = tonumber(ARGV[2])    -- seconds
local tolerance = tonumber(ARGV[3])    -- seconds
local channel = ARGV[4]
local rollup_delay = tonumber(ARGV[5]) -- seconds after an hour's end or a late datapoint; '' for no roll-ups
-- How datapoints lie in hours: a line "field offset time period first_wins count" for each run, and an empty line after
-- each layout. first_wins is 1 if the first write of a datapoint counts, 0 if the last one does. Most samples have the
-- same few layouts.
local layouts = ARGV[6]
-- Of each sample: worker, incarnation, slot, time, condition, last error ('' for none), event, the revision by which
-- its evaluation may wait if the worker is steady ('' if it may not), and the number of its hours; then of each hour
-- its start, the number of its layout, and the data of all runs, eight bytes a datapoint.
local samples_at = 7                   -- ARGV[samples_at], …

local ABSENT = string.rep('\0', 8) -- a datapoint that was never written (on_redis/datapoint_packing.py)

-- Return `new`, with the datapoints of `old` where `old` has them.
local function keep_first(old, new)
  local merged = {}
  for i = 1, #new, 8 do
    local stored = string.sub(old, i, i + 7)
    merged[#merged + 1] = (#stored == 8 and stored ~= ABSENT) and stored or string.sub(new, i, i + 7)
  end
  return table.concat(merged)
end

-- Each layout with its runs, and with each of its fields once.
local function parse_layouts()
  local parsed, layout, seen = {}, { runs = {}, fields = {} }, {}
  for line in string.gmatch(layouts, '([^\n]*)\n') do
    if line == '' then
      parsed[#parsed + 1] = layout
      layout, seen = { runs = {}, fields = {} }, {}
    else
      local field, offset, time, period, first_wins, count =
        string.match(line, '^(.*) (%-?%d+) (%-?%d+) (%d+) ([01]) (%d+)$')
      layout.runs[#layout.runs + 1] = {
        field = field, offset = offset * 8, time = tonumber(time), period = tonumber(period),
        first_wins = first_wins == '1', size = count * 8,
      }
      if not seen[field] then layout.fields[#layout.fields + 1] = field end
      seen[field] = true
    end
  end
  return parsed
end

-- Return the place of the first datapoint of `new` that `old` lacks or has otherwise. They differ.
local function first_difference(old, new)
  -- Most often `new` begins with all of `old`: one comparison instead of one for each datapoint.
  if #old % 8 == 0 and string.sub(new, 1, #old) == old then return #old + 1 end
  local place = 1
  while string.sub(old, place, place + 7) == string.sub(new, place, place + 7) do place = place + 8 end
  return place
end

-- Write datapoints into an hour. Returns the time of the earliest one that is new or changed, nil if none is, and adds
-- the hours that need a new roll-up to `stale`.
local function write_hour(key, layout, data, was_complete, stale)
  -- All fields of an hour are read and written in one call each, because each call costs time.
  local fields, texts, dirty, changed = layout.fields, {}, {}, nil
  for i = 1, #fields, 1000 do
    local read = redis.call('HMGET', key, unpack(fields, i, math.min(i + 999, #fields)))
    for j = 1, #read do texts[fields[i + j - 1]] = read[j] or '' end
  end
  local begin = 1
  for _, run in ipairs(layout.runs) do
    local text, offset = texts[run.field], run.offset
    local new = string.sub(data, begin, begin + run.size - 1)
    begin = begin + run.size
    local old = string.sub(text, offset + 1, offset + #new)
    -- Only a clock that was ahead can have written it before its slot was complete.
    if run.first_wins and was_complete then new = keep_first(old, new) end
    if old ~= new then
      local different = first_difference(old, new)
      local since = run.time + (different - 1) / 8 * run.period
      if not changed or since < changed then changed = since end
      local last = since + ((#new - different + 1) / 8 - 1) * run.period
      for hour = math.floor(since / 3600) * 3600, last, 3600 do stale[hour] = true end
      if #text < offset then text = text .. string.rep('\0', offset - #text) end
      if #text == offset + #old and different > #old then
        texts[run.field] = text .. string.sub(new, different)
      else
        texts[run.field] = string.sub(text, 1, offset) .. new .. string.sub(text, offset + #new + 1)
      end
      dirty[run.field] = true
    end
  end
  local written = {}
  for _, field in ipairs(fields) do
    if dirty[field] then
      written[#written + 1] = field
      written[#written + 1] = texts[field]
    end
  end
  for i = 1, #written, 1000 do redis.call('HSET', key, unpack(written, i, math.min(i + 999, #written))) end
  return changed
end

local function mark_rollups(worker_id, at, stale)
  for hour in pairs(stale) do
    -- Before the ledger drops the hour.
    local latest = math.max(hour + 3600 + retention - 600, tonumber(at))
    local due = math.min(math.max(hour + 3600, tonumber(at)) + rollup_delay, latest)
    redis.call('ZADD', rollups_due, string.format('%.3f', due), worker_id .. ' ' .. string.format('%d', hour))
  end
end

-- Write the sample whose keys and arguments begin there. Returns its outcome.
local function write(parsed, key, argument)
  local worker = KEYS[key]
  local worker_id, incarnation, slot, at, condition, last_error, event, steady, hours =
    unpack(ARGV, argument, argument + 8)
  local present, completed, changed_from, first_hour, last_hour, error_before, steady_by, seq = unpack(redis.call(
    'HMGET', worker, 'incarnation', 'slot', 'changed_from', 'first_hour', 'last_hour', 'last_error', 'steady', 'seq'))
  if present ~= incarnation then return 'gone' end
  local was_complete = is_complete(completed, slot, tolerance)
  local repeated = not force and was_complete
  local changed -- the time of the earliest datapoint that is new or changed
  local stored_first, stored_last = tonumber(first_hour or ''), tonumber(last_hour or '')
  local first, last = stored_first, stored_last

  local stale = {} -- the hours that need a new roll-up
  for k = 1, tonumber(hours) do
    local ledger = KEYS[key + k]
    local hour, layout, data = unpack(ARGV, argument + 6 + 3 * k, argument + 8 + 3 * k)
    hour = tonumber(hour)
    local since = write_hour(ledger, parsed[tonumber(layout)], data, was_complete, stale)
    if since then
      if not changed or since < changed then changed = since end
      local lifetime = math.ceil(hour + 3600 + retention - tonumber(at))
      if redis.call('TTL', ledger) < lifetime then redis.call('EXPIRE', ledger, lifetime) end
      if not first or hour < first then first = hour end
      if not last or hour > last then last = hour end
    end
  end
  if rollup_delay then mark_rollups(worker_id, at, stale) end

  local updates = {}
  local function set(field, value)
    updates[#updates + 1] = field
    updates[#updates + 1] = value
  end
  if changed then
    local since = tonumber(changed_from or '')
    if not since or changed < since then set('changed_from', string.format('%d', changed)) end
    if last ~= stored_last then
      -- Expired hours at the beginning need not be looked for again.
      local prefix = string.match(KEYS[key + 1], '^(.*:)')
      while first < last and redis.call('EXISTS', prefix .. string.format('%d', first)) == 0 do first = first + 3600 end
    end
    if first ~= stored_first or last ~= stored_last then
      set('first_hour', string.format('%d', first))
      set('last_hour', string.format('%d', last))
    end
  end
  if changed or not repeated then
    -- A value that is not a number counts as 0.
    local number = tonumber(seq or '') or 0
    if number % 1 ~= 0 or number < 0 or number >= 2 ^ 53 then number = 0 end
    set('seq', string.format('%d', number + 1))
    if steady == '' or steady_by ~= steady then redis.call('ZADD', pending, 'NX', at, worker_id) end
  end
  if not repeated then
    set('condition', condition)
    set('slot', slot)
    if last_error ~= '' then
      set('last_error', last_error)
    elseif error_before then
      redis.call('HDEL', worker, 'last_error')
    end
  end
  if #updates > 0 then redis.call('HSET', worker, unpack(updates)) end
  if repeated then return 'repeated' end
  redis.call('PUBLISH', channel, event)
  return 'accepted'
end

local parsed = parse_layouts()
local outcomes = {}
local key, argument = hashes_at, samples_at
while argument <= #ARGV do
  local hours = tonumber(ARGV[argument + 8])
  local done, outcome = pcall(write, parsed, key, argument)
  key, argument = key + 1 + hours, argument + 9 + 3 * hours
  if not done and #outcomes == 0 and argument > #ARGV then error(outcome) end
  outcomes[#outcomes + 1] = done and outcome or 'failed'
end
return outcomes
