# SPDX-License-Identifier: Apache-2.0
"""Other words for common words of technical prose. Data; used by `paraphrase.py`."""

_TABLE = """
absent:missing accept:take accepts:takes access:reach add:append adds:appends allow:let allowed:permitted allows:lets
also:too already:before alternative:other always:every-time append:add argument:parameter arguments:parameters
automatically:by-itself avoid:prevent based:depending before:prior begin:start beginning:start behavior:behaviour
build:make builds:makes calculate:compute calculates:computes call:invoke called:invoked calls:invokes cause:make
causes:makes change:modify changed:modified changes:modifies check:verify checks:verifies choose:pick close:shut
collection:set combine:join compare:match complete:whole compute:calculate computes:calculates configuration:settings
connect:attach contain:hold containing:holding contains:holds convert:turn converted:turned converts:turns copy:duplicate
correct:right create:make created:made creates:makes creating:making current:present default:standard define:describe
defined:described defines:describes delete:remove deleted:removed deletes:removes describe:explain describes:explains
desired:wanted determine:find-out determines:finds-out different:other directory:folder directories:folders
display:show displays:shows element:item elements:items empty:blank enable:switch-on enabled:switched-on end:finish
ensure:make-sure ensures:makes-sure entire:whole equal:identical error:failure errors:failures evaluate:compute
example:sample exception:error exceptions:errors execute:run executed:run executes:runs exist:are-there exists:is-there
expected:awaited extract:take-out fail:break fails:breaks fast:quick fetch:get find:search finds:searches first:initial
following:next format:layout function:routine functions:routines generate:produce generated:produced generates:produces
get:fetch gets:fetches give:provide given:provided gives:provides handle:treat handled:treated handles:treats
identical:same ignore:skip ignored:skipped ignores:skips implement:realise implementation:realisation
implements:realises include:contain included:contained includes:contains increase:raise indicate:show indicates:shows
information:details initialize:set-up initializes:sets-up input:source insert:put instead:rather keep:retain kept:retained
keyword:named large:big last:final length:size like:similar list:sequence lists:sequences load:read loaded:read
loads:reads located:found location:place locations:places make:create makes:creates match:fit matches:fits matching:fitting
maximum:largest method:operation methods:operations minimum:smallest missing:absent modified:changed modify:change
multiple:several must:has-to name:identifier names:identifiers necessary:needed need:require needed:required
needs:requires new:fresh number:count object:thing objects:things obtain:get occur:happen occurs:happens only:solely
open:start operation:action option:setting optional:voluntary options:settings order:sequence original:first
output:result overwrite:replace parameter:argument parameters:arguments parse:read parses:reads pass:hand passed:handed
path:location perform:do performed:done performs:does possible:feasible prevent:avoid previous:earlier print:write
prints:writes process:handle produce:generate program:application provide:give provided:given provides:gives
raise:throw raised:thrown raises:throws read:load reads:loads receive:get received:got receives:gets remove:delete
removed:deleted removes:deletes replace:substitute replaced:substituted replaces:substitutes represent:stand-for
represents:stands-for request:query requests:queries require:need required:needed requires:needs result:outcome
results:outcomes retrieve:fetch return:give-back returned:given-back returning:giving-back returns:gives-back
run:execute runs:executes same:identical save:store saved:stored search:look-up select:choose selected:chosen
send:transmit sends:transmits sequence:series set:assign sets:assigns several:many should:ought-to show:display
shows:displays similar:alike single:one size:length skip:omit small:little specific:particular specified:named
specifies:names specify:name start:begin started:begun starting:beginning starts:begins stop:end stops:ends store:keep
stored:kept stores:keeps string:text strings:texts supply:give support:allow supported:allowed supports:allows
take:accept takes:accepts test:check tests:checks text:words transform:change try:attempt type:kind types:kinds
update:refresh updated:refreshed updates:refreshes use:employ used:employed useful:handy user:person users:people
uses:employs using:with usually:mostly valid:legal value:content values:contents verify:check wait:pause want:wish
whether:if without:lacking work:function works:functions write:put-out writes:puts-out wrong:bad
"""

SYNONYMS = {
    word: other.replace("-", " ") for word, _, other in (pair.partition(":") for pair in _TABLE.split())
}

_STOP = """
a about all an and any are as at be been being but by can could do does each for from had has have he her
his how i if in into is it its itself just may might more most my no nor not of on one or other our out over
own shall she so some such than that the their them then there these they this those through to too under
until up very was we were what when where which while who whom why will with would you your
"""

STOP_WORDS = frozenset(_STOP.split())
